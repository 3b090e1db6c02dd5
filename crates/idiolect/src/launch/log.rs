//! The log of a program that was started: what it wrote to its standard output and error.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use crate::shown::escaped;

/// Bytes at the end of a log among which its last lines are looked for.
const TAIL_BYTES: u64 = 64 << 10;

/// Characters of a line that are shown.
const LONGEST_LINE: usize = 400;

/// What one process has written to its log file, which may hold that of earlier ones before it.
#[derive(Clone, Debug)]
pub struct Log {
    path: PathBuf,
    /// Where this process's part begins, bytes.
    begin: u64,
}

impl Log {
    pub(super) fn new(path: &Path, begin: u64) -> Self {
        Self {
            path: path.to_owned(),
            begin,
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole lines that were written since `from`, which moves behind them; it begins at 0. Text
    /// that is no UTF-8 is replaced; nothing is escaped.
    ///
    /// # Errors
    /// Of reading.
    pub fn lines(&self, from: &mut u64) -> io::Result<Vec<String>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.begin + *from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        *from += whole as u64;
        let text = String::from_utf8_lossy(&bytes[..whole]);
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The last `most` lines that say something, escaped, one a line and indented by two spaces, to
    /// end an error with; where there is none, that it wrote nothing.
    pub fn tail(&self, most: usize) -> String {
        let lines = self.last(most).unwrap_or_default();
        let name = self.path.display();
        if lines.is_empty() {
            return format!("\n  it wrote nothing to its log `{name}`");
        }
        let lines: String = lines.iter().map(|line| format!("\n  | {line}")).collect();
        format!("\n  the end of its log `{name}`:{lines}")
    }

    fn last(&self, most: usize) -> io::Result<Vec<String>> {
        let mut file = File::open(&self.path)?;
        let end = file.seek(SeekFrom::End(0))?;
        let from = end.saturating_sub(TAIL_BYTES).max(self.begin);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let mut lines: Vec<String> = text
            .lines()
            .map(plain)
            .filter(|line| !line.trim().is_empty())
            .collect();
        lines.drain(..lines.len().saturating_sub(most));
        Ok(lines)
    }
}

/// A line as a terminal would show it last (progress bars return to its start), without colours.
fn plain(line: &str) -> String {
    let line = line.trim_end_matches('\r');
    let line = line.rsplit('\r').next().unwrap_or(line);
    let mut text = String::new();
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' && chars.peek() == Some(&'[') {
            chars.next();
            // A control sequence: parameters, then one final letter.
            while chars
                .next()
                .is_some_and(|c| !('\u{40}'..='\u{7e}').contains(&c))
            {}
        } else {
            text.push(c);
        }
    }
    escaped(&text.replace('\t', "    "), LONGEST_LINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_of_this_process_and_shows_no_control_character() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let before = "an earlier process\n";
        let text = "one\n\n  \n 10%\r 50%\r\u{1b}[31mred\u{1b}[0m\ttab\nbell\u{7}\u{202e}\nlast";
        std::fs::write(&path, format!("{before}{text}")).unwrap();
        let log = Log::new(&path, before.len() as u64);
        let shown = log.tail(10);
        assert!(
            shown.ends_with("  | one\n  | red    tab\n  | bell\\u{7}\\u{202e}\n  | last"),
            "{shown}"
        );
        assert!(log.tail(1).ends_with(":\n  | last"));
        let mut from = 0;
        assert_eq!(log.lines(&mut from).unwrap().len(), 5);
        assert!(log.lines(&mut from).unwrap().is_empty());
        std::fs::write(&path, format!("{before}{text} line\n")).unwrap();
        assert_eq!(log.lines(&mut from).unwrap(), ["last line"]);
        let nothing = Log::new(&path, 10_000).tail(5);
        assert!(nothing.contains("wrote nothing"), "{nothing}");
    }
}
