//! A checksum for each row of a journal: of the row and of all rows before it.
//!
//! A row that was changed, moved, taken out or put in is told when the journal is read again, before
//! anything is made of it. It guards against accidents and edits by hand, not against someone who
//! computes the sums anew: who can write the folder is trusted with it.

use sha2::{Digest, Sha256};

/// Bytes of a sum.
const BYTES: usize = 8;
const BEFORE: &[u8] = b",\"sum\":\"";
const AFTER: &[u8] = b"\"}";

/// The sum of the rows so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Checksum([u8; BYTES]);

impl Checksum {
    /// Adds its sum to the text of a JSON object as the last field.
    pub(super) fn add_to(&mut self, line: &mut Vec<u8>) {
        line.pop();
        let sum = self.after(line);
        line.extend_from_slice(BEFORE);
        line.extend_from_slice(sum.as_bytes());
        line.extend_from_slice(AFTER);
    }

    /// Whether the text of a row, its line's end aside, is what was written after the rows so far.
    pub(super) fn accepts(&mut self, line: &[u8]) -> bool {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let Some(text) = text.strip_suffix(AFTER) else {
            return false;
        };
        let Some((text, sum)) = text.split_at_checked(text.len().saturating_sub(2 * BYTES)) else {
            return false;
        };
        text.strip_suffix(BEFORE)
            .is_some_and(|row| self.after(row).as_bytes() == sum)
    }

    fn after(&mut self, row: &[u8]) -> String {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(row);
        self.0.copy_from_slice(&hash.finalize()[..BYTES]);
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Vec<Vec<u8>> {
        let mut sum = Checksum::default();
        let rows = ["{\"id\":\"a\"}", "{\"id\":\"b\"}", "{\"id\":\"b\"}"];
        rows.map(|row| {
            let mut line = row.as_bytes().to_vec();
            sum.add_to(&mut line);
            line
        })
        .to_vec()
    }

    /// How many lines are accepted before the first that is not.
    fn accepted(lines: &[Vec<u8>]) -> usize {
        let mut sum = Checksum::default();
        lines.iter().take_while(|line| sum.accepts(line)).count()
    }

    #[test]
    fn any_changed_bit_any_exchange_and_any_gap_is_told() {
        let whole = lines();
        assert_eq!(accepted(&whole), 3);
        assert!(serde_json::from_slice::<serde_json::Value>(&whole[2]).unwrap()["sum"].is_string());
        for (number, line) in whole.iter().enumerate() {
            for bit in 0..8 * line.len() {
                let mut changed = whole.clone();
                changed[number][bit / 8] ^= 1 << (bit % 8);
                assert_eq!(accepted(&changed), number, "line {number}, bit {bit}");
            }
        }
        // The second and third row are equal; their sums are not.
        let order = |order: &[usize]| order.iter().map(|n| whole[*n].clone()).collect::<Vec<_>>();
        assert_eq!(accepted(&order(&[1, 0, 2])), 0);
        assert_eq!(accepted(&order(&[0, 2, 1])), 1);
        assert_eq!(accepted(&order(&[0, 2])), 1);
        assert_eq!(accepted(&order(&[0, 1, 1])), 2);
        assert_eq!(accepted(&[b"}".to_vec(), Vec::new()]), 0);
    }
}
