//! The parts that an expression is made of: numbers, names, functions, brackets, matrices.

use super::parse::{Parser, one_or};
use super::token::T;
use super::tree::{Constant, Function, Tree};
use super::words;
use crate::rational::Rational;

impl Parser<'_> {
    pub(crate) fn atom(&mut self) -> Option<Tree> {
        match self.peek()? {
            T::Number { value, decimals } => {
                let (value, decimals) = (value.clone(), *decimals);
                self.bump();
                Some(match self.mixed(&value, decimals) {
                    Some(mixed) => mixed,
                    None => Tree::Number { value, decimals },
                })
            }
            T::Truncated { value, places } => {
                self.bump();
                Some(Tree::Truncated {
                    value: value.clone(),
                    places: *places,
                })
            }
            T::Based { digits, base } => {
                self.bump();
                Some(Tree::Based {
                    digits: digits.clone(),
                    base: *base,
                    negative: false,
                })
            }
            T::Time(seconds) => {
                self.bump();
                Some(Tree::Time(*seconds))
            }
            T::Word(word) => self.word(word),
            T::Text(text) => {
                self.bump();
                Some(match self.peek() {
                    Some(T::Sign(_)) => Tree::Symbol(text.clone()),
                    _ => said(text),
                })
            }
            T::Symbol(name) => {
                self.bump();
                Some(match name.as_str() {
                    "∅" => Tree::Set(Vec::new()),
                    _ => Tree::Symbol(name.clone()),
                })
            }
            T::Constant(constant) => {
                self.bump();
                Some(Tree::Constant(*constant))
            }
            T::Function(f) => {
                self.bump();
                self.function(*f)
            }
            T::Fraction => {
                self.bump();
                self.fraction()
            }
            T::Binomial => {
                self.bump();
                let above = self.nested(Self::argument)?;
                let below = self.nested(Self::argument)?;
                Some(Tree::Apply(Function::Binomial, vec![above, below]))
            }
            T::Sqrt => {
                self.bump();
                self.root()
            }
            T::Accent(accent) => {
                self.bump();
                self.accent(accent)
            }
            T::Open(open) => self.bracket(*open),
            T::Bar => {
                self.bump();
                self.bars += 1;
                let inside = self.nested(Self::sum);
                self.bars -= 1;
                let inside = inside?;
                self.take(&T::Bar)
                    .then(|| Tree::Apply(Function::Abs, vec![inside]))
            }
            T::DoubleBar => {
                self.bump();
                let inside = self.nested(Self::sum)?;
                self.take(&T::DoubleBar)
                    .then(|| Tree::Apply(Function::Norm, vec![inside]))
            }
            T::Begin(name) => {
                self.bump();
                self.environment(name)
            }
            T::Integral => {
                self.bump();
                self.integral()
            }
            T::Series { product } => {
                self.bump();
                self.series(*product)
            }
            T::Limit => {
                self.bump();
                self.limit()
            }
            _ => None,
        }
    }

    /// `1\frac{1}{2}` and `1 1/2`: a whole number and a proper fraction.
    fn mixed(&mut self, whole: &Rational, decimals: Option<u32>) -> Option<Tree> {
        if decimals.is_some() || !whole.is_integer() {
            return None;
        }
        let (at, letter) = (self.at, self.letter);
        let fraction = match self.peek() {
            Some(T::Fraction) => {
                self.bump();
                match (self.nested(Self::argument), self.nested(Self::argument)) {
                    (Some(Tree::Number { value: n, .. }), Some(Tree::Number { value: d, .. })) => {
                        Some((n, d))
                    }
                    _ => None,
                }
            }
            Some(T::Number {
                value: n,
                decimals: None,
            }) if self.tokens[self.at].spaced && self.peek_at(1) == Some(&T::Slash) => {
                match self.peek_at(2) {
                    Some(T::Number {
                        value: d,
                        decimals: None,
                    }) => {
                        let pair = (n.clone(), d.clone());
                        self.at += 3;
                        Some(pair)
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        let proper =
            fraction.filter(|(n, d)| n.is_integer() && d.is_integer() && !n.is_negative() && n < d);
        let value = proper.and_then(|(n, d)| Some(whole.plus(&n.over(&d)?)));
        if value.is_none() {
            (self.at, self.letter) = (at, letter);
        }
        value.map(Tree::exact)
    }

    /// Letters: a name, a product of variables, or words.
    fn word(&mut self, word: &str) -> Option<Tree> {
        if self.letter == 0 {
            if self.is_prose(word) {
                let names = matches!(self.peek_at(1), Some(T::Sign(_)));
                self.bump();
                return Some(if names {
                    Tree::Symbol(word.to_owned())
                } else {
                    said(&self.prose(word))
                });
            }
            // "I cannot solve this."
            if word == "I"
                && let Some(T::Word(next)) = self.peek_at(1)
                && words::is_prose(next, true)
            {
                self.bump();
                return Some(said(&self.prose(word)));
            }
            // Points and other names in capitals: AB, ACF.
            if word.len() > 1 && word.bytes().all(|b| b.is_ascii_uppercase()) {
                self.bump();
                return Some(Tree::Symbol(word.to_owned()));
            }
            if let Some(tree) = self.glued_function(word) {
                return tree;
            }
        }
        let rest = &word[self.letter..];
        // `dx` of an integral.
        if self.in_integral && rest.starts_with('d') && rest.len() > 1 {
            let name = format!("d:{}", &rest[1..2]);
            self.take_letters(word, 2);
            return Some(Tree::Symbol(name));
        }
        if self.in_integral
            && rest == "d"
            && let Some(T::Symbol(name)) = self.peek_at(1)
        {
            let name = format!("d:{name}");
            self.bump();
            self.bump();
            return Some(Tree::Symbol(name));
        }
        if self.in_integral
            && rest == "d"
            && let Some(T::Word(next)) = self.peek_at(1)
        {
            let name = format!("d:{}", &next[..1]);
            self.bump();
            self.take_letters(next, 1);
            return Some(Tree::Symbol(name));
        }
        let letter = &rest[..1];
        let last = rest.len() == 1;
        self.take_letters(word, 1);
        let called = last && matches!(letter, "f" | "g" | "h" | "F" | "G" | "H");
        Some(match letter {
            "e" => Tree::Constant(Constant::E),
            "i" | "I" => Tree::Constant(Constant::I),
            name if called && self.peek() == Some(&T::Open('(')) => {
                let arguments = self.nested(Self::bracket_items)?;
                Tree::Call(name.to_owned(), arguments)
            }
            // f{\left(x\right)}
            name if called
                && self.peek() == Some(&T::Open('{'))
                && self.peek_at(1) == Some(&T::Open('(')) =>
            {
                let argument = self.nested(Self::argument)?;
                Tree::Call(name.to_owned(), vec![argument])
            }
            name => Tree::Symbol(name.to_owned()),
        })
    }

    fn take_letters(&mut self, word: &str, count: usize) {
        self.letter += count;
        if self.letter >= word.len() {
            self.bump();
        }
    }

    /// The words of a remark that begins an item.
    fn prose(&mut self, first: &str) -> String {
        let mut text = first.to_lowercase();
        loop {
            match (self.peek(), self.peek_at(1)) {
                // twenty-five
                (Some(T::Minus), Some(T::Word(word)))
                    if !self.tokens[self.at].spaced && !self.tokens[self.at + 1].spaced =>
                {
                    text.push('-');
                    text.push_str(&word.to_lowercase());
                    self.at += 2;
                }
                // one and a half
                (Some(T::And), Some(T::Word(word))) if words::number(&text).is_some() => {
                    let mut joined = format!("{text} and {}", word.to_lowercase());
                    let mut length = 2;
                    while words::number(&joined).is_none()
                        && length < 6
                        && let Some(T::Word(more)) = self.peek_at(length)
                    {
                        joined.push(' ');
                        joined.push_str(&more.to_lowercase());
                        length += 1;
                    }
                    if words::number(&joined).is_none() {
                        return text;
                    }
                    text = joined;
                    self.at += length;
                }
                (Some(T::Word(word) | T::Text(word)), _) => {
                    text.push(' ');
                    text.push_str(&word.to_lowercase());
                    self.bump();
                }
                _ => return text,
            }
        }
    }

    /// `sinx`, `lnx`.
    fn glued_function(&mut self, word: &str) -> Option<Option<Tree>> {
        let (name, argument) = word.split_at(word.len().checked_sub(1)?);
        let f = match name {
            "sin" => Function::Sin,
            "cos" => Function::Cos,
            "tan" => Function::Tan,
            "ln" | "log" => Function::Log,
            _ => return None,
        };
        self.bump();
        Some(Some(Tree::Apply(
            f,
            vec![Tree::Symbol(argument.to_owned())],
        )))
    }

    /// The argument of a command: a group, or one token.
    pub(crate) fn argument(&mut self) -> Option<Tree> {
        match self.peek()? {
            T::Open('{') => {
                self.bump();
                let items = self.items()?;
                self.take(&T::Close('}')).then_some(())?;
                Some(one_or(items, Tree::Set))
            }
            T::Minus => {
                self.bump();
                self.nested(Self::argument).map(Tree::negated)
            }
            _ => self.nested(Self::atom),
        }
    }

    fn fraction(&mut self) -> Option<Tree> {
        let at = self.at;
        if self.is_derivative() {
            let name_from = self.tokens.get(at)?.start;
            self.skip_group();
            self.skip_group();
            let name_to = self.tokens.get(self.at - 1)?.end;
            let name: String = self.text[name_from..name_to]
                .chars()
                .filter(|c| !c.is_whitespace())
                .collect();
            let of = self.nested(Self::product)?;
            return Some(Tree::Opaque("derivative", vec![Tree::Symbol(name), of]));
        }
        let above = self.nested(Self::argument)?;
        let below = self.nested(Self::argument)?;
        Some(above.over(below))
    }

    /// `\frac{d}{dx}`, `\frac{d^2}{d t^2}`, `\frac{\partial}{…}`, with something after it.
    fn is_derivative(&self) -> bool {
        let d = |t: Option<&T>| matches!(t, Some(T::Word(w)) if w == "d");
        let above = self.peek() == Some(&T::Open('{'))
            && d(self.peek_at(1))
            && matches!(self.peek_at(2), Some(T::Close('}') | T::Caret));
        let close = self.tokens[self.at..]
            .iter()
            .position(|t| t.kind == T::Close('}'));
        above
            && close.is_some_and(|i| {
                self.peek_at(i + 1) == Some(&T::Open('{'))
                    && matches!(self.peek_at(i + 2), Some(T::Word(w)) if w.starts_with('d'))
            })
    }

    fn skip_group(&mut self) {
        let mut depth = 0usize;
        while let Some(kind) = self.peek() {
            match kind {
                T::Open('{') => depth += 1,
                T::Close('}') => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.bump();
            if depth == 0 {
                break;
            }
        }
    }

    fn root(&mut self) -> Option<Tree> {
        let mut degree = Tree::integer(2);
        if self.peek() == Some(&T::Open('[')) {
            self.bump();
            degree = self.nested(Self::sum)?;
            self.take(&T::Close(']')).then_some(())?;
        }
        let of = match self.peek()? {
            T::Open('(') => {
                let mut items = self.nested(Self::bracket_items)?;
                if items.len() != 1 {
                    return None;
                }
                items.pop()?
            }
            _ => self.nested(Self::argument)?,
        };
        Some(Tree::Apply(Function::Root, vec![of, degree]))
    }

    /// `\overline{AB}`, `\vec v`: a name of its own.
    fn accent(&mut self, accent: &str) -> Option<Tree> {
        let from = self.tokens.get(self.at)?.start;
        match self.peek()? {
            T::Open('{') => self.skip_group(),
            T::Word(word) => self.take_letters(word, 1),
            _ => self.bump(),
        }
        let last = self.tokens.get(self.at - usize::from(self.letter == 0))?;
        let to = if self.letter > 0 { from + 1 } else { last.end };
        let name: String = self.text[from..to]
            .chars()
            .filter(|c| !matches!(c, '{' | '}' | ' '))
            .collect();
        Some(Tree::Symbol(format!("{accent}:{name}")))
    }

    fn function(&mut self, f: Function) -> Option<Tree> {
        let mut exponent = None;
        let mut base = None;
        loop {
            if self.letter == 0 && self.take(&T::Under) {
                base = Some(self.nested(Self::argument)?);
            } else if self.letter == 0 && self.peek() == Some(&T::Caret) {
                self.bump();
                exponent = Some(self.nested(Self::argument)?);
            } else {
                break;
            }
        }
        let mut arguments = self.arguments(f)?;
        let mut f = f;
        if f == Function::Log
            && let Some(base) = base
        {
            arguments.push(base);
        }
        // sin⁻¹ is the inverse.
        let inverse = match f {
            Function::Sin => Some(Function::Arcsin),
            Function::Cos => Some(Function::Arccos),
            Function::Tan => Some(Function::Arctan),
            Function::Sinh => Some(Function::Arsinh),
            Function::Cosh => Some(Function::Arcosh),
            Function::Tanh => Some(Function::Artanh),
            _ => None,
        };
        if let Some(inverse) = inverse
            && exponent == Some(Tree::integer(-1))
        {
            f = inverse;
            exponent = None;
        }
        let applied = Tree::Apply(f, arguments);
        Some(match exponent {
            Some(exponent) => applied.raised_to(exponent),
            None => applied,
        })
    }

    fn arguments(&mut self, f: Function) -> Option<Vec<Tree>> {
        match self.peek()? {
            T::Open('(' | '[' | '⦃') => self.nested(Self::bracket_items),
            T::Open('{') => Some(vec![self.nested(Self::argument)?]).map(|items| {
                match items.into_iter().next() {
                    Some(Tree::Set(items)) => items,
                    Some(one) => vec![one],
                    None => Vec::new(),
                }
            }),
            T::Function(_) | T::Bar | T::Minus | T::Begin(_) => {
                let negative = self.take(&T::Minus);
                let argument = self.nested(Self::power)?;
                Some(vec![if negative {
                    argument.negated()
                } else {
                    argument
                }])
            }
            _ => {
                let mut factors = vec![self.nested(Self::power)?];
                while self.continues_argument() {
                    factors.push(self.power()?);
                }
                let _ = f;
                Some(vec![one_or(factors, Tree::Product)])
            }
        }
    }

    /// `\sin 2x`: what still belongs to an argument without brackets.
    fn continues_argument(&self) -> bool {
        if self.letter > 0 {
            return true;
        }
        match self.peek() {
            Some(T::Word(word)) => {
                !self.is_prose(word) && !words::is_unit(word, self.tokens[self.at].spaced)
            }
            Some(T::Symbol(_) | T::Constant(_) | T::Fraction | T::Sqrt) => true,
            _ => false,
        }
    }

    /// The items between brackets, whichever they are.
    pub(crate) fn bracket_items(&mut self) -> Option<Vec<Tree>> {
        self.bump();
        let bars = std::mem::take(&mut self.bars);
        let items = self.items();
        self.bars = bars;
        let items = items?;
        matches!(self.peek(), Some(T::Close(_))).then(|| self.bump())?;
        Some(items)
    }

    fn bracket(&mut self, open: char) -> Option<Tree> {
        self.bump();
        if let Some(T::Close(_)) = self.peek() {
            self.bump();
            return match open {
                '⦃' => Some(Tree::Set(Vec::new())),
                // `{}` represents nothing.
                '{' => self.nested(Self::atom),
                _ => None,
            };
        }
        let bars = std::mem::take(&mut self.bars);
        let inside = self.inside(open);
        self.bars = bars;
        let mut items = inside?;
        let Some(T::Close(close)) = self.peek() else {
            return None;
        };
        self.bump();
        Some(match open {
            '{' => one_or(items, Tree::Set),
            '⦃' if self.in_integral && items.len() == 1 => items.remove(0),
            '⦃' => match items.len() {
                1 if matches!(items[0], Tree::Relation { .. } | Tree::Sets(..)) => items.remove(0),
                _ => Tree::Set(items),
            },
            '⌊' | '⌈' if items.len() == 1 => {
                let f = if open == '⌊' {
                    Function::Floor
                } else {
                    Function::Ceil
                };
                Tree::Apply(f, items)
            }
            _ if items.len() == 1 => items.remove(0),
            _ => Tree::Bracketed {
                open: if open == '⟨' { '(' } else { open },
                items,
                close: if *close == '⟩' { ')' } else { *close },
            },
        })
    }

    /// The items of a bracket; of `{x | P}` and `{x : P}` the condition P.
    fn inside(&mut self, open: char) -> Option<Vec<Tree>> {
        let items = self.items()?;
        if open != '⦃' {
            // `(1;2)` is a tuple, `(1,2;3,4)` one of tuples.
            let mut groups = vec![items];
            while self.take(&T::Semicolon) {
                groups.push(self.items()?);
            }
            let nested = groups.len() > 1 && groups.iter().any(|group| group.len() > 1);
            let tuple = |items: Vec<Tree>| Tree::Bracketed {
                open: '(',
                items,
                close: ')',
            };
            return Some(match nested {
                true => groups.into_iter().map(|g| one_or(g, tuple)).collect(),
                false => groups.into_iter().flatten().collect(),
            });
        }
        if self.take(&T::Bar) {
            return self.items();
        }
        // `\{1;2\}`
        let mut items = items;
        while self.take(&T::Semicolon) {
            items.extend(self.items()?);
        }
        if let [Tree::Ratio(terms)] = &items[..]
            && matches!(self.peek(), Some(T::Close(_)))
            && terms.len() == 2
        {
            return Some(vec![terms[1].clone()]);
        }
        if let [Tree::Relation { sides, signs }] = &items[..]
            && let [Tree::Ratio(terms), rest @ ..] = &sides[..]
            && terms.len() == 2
        {
            let mut sides = vec![terms[1].clone()];
            sides.extend(rest.iter().cloned());
            return Some(vec![Tree::Relation {
                sides,
                signs: signs.clone(),
            }]);
        }
        Some(items)
    }

    fn environment(&mut self, name: &str) -> Option<Tree> {
        let mut rows = vec![Vec::new()];
        let bars = std::mem::take(&mut self.bars);
        let read = loop {
            match self.peek() {
                None => break None,
                Some(T::End(_)) => {
                    self.bump();
                    break Some(());
                }
                Some(T::Ampersand) => self.bump(),
                Some(T::Row) => {
                    self.bump();
                    rows.push(Vec::new());
                }
                Some(T::Comma | T::Quad) => self.bump(),
                _ => {
                    let Some(item) = self.item() else {
                        break None;
                    };
                    if let Some(row) = rows.last_mut() {
                        row.push(item);
                    }
                }
            }
        };
        self.bars = bars;
        read?;
        rows.retain(|row| !row.is_empty());
        if rows.is_empty() {
            return None;
        }
        match name {
            "align" | "aligned" | "gather" | "gathered" | "equation" | "split" => {
                let items: Vec<Tree> = rows.into_iter().flatten().collect();
                Some(one_or(items, Tree::List))
            }
            "vmatrix" => Some(Tree::Apply(Function::Det, vec![Tree::Matrix(rows)])),
            _ => Some(Tree::Matrix(rows)),
        }
    }

    /// Bounds below and above, in either order.
    fn bounds(&mut self) -> Option<(Option<Tree>, Option<Tree>)> {
        let (mut below, mut above) = (None, None);
        loop {
            let slot = match self.peek() {
                Some(T::Under) => &mut below,
                Some(T::Caret) => &mut above,
                _ => return Some((below, above)),
            };
            self.at += 1;
            if self.peek() == Some(&T::Open('{')) && self.peek_at(1) == Some(&T::Close('}')) {
                self.at += 2;
                continue;
            }
            let at = self.at;
            let bound = match self.peek()? {
                T::Open('{') => {
                    self.bump();
                    let items = self.items()?;
                    self.take(&T::Close('}')).then_some(())?;
                    one_or(items, Tree::Set)
                }
                T::Word(word) => {
                    let name = word[..1].to_owned();
                    self.take_letters(word, 1);
                    Tree::Symbol(name)
                }
                _ => {
                    self.at = at;
                    self.argument()?
                }
            };
            *slot = Some(bound);
        }
    }

    fn integral(&mut self) -> Option<Tree> {
        let (from, to) = self.bounds()?;
        let outer = std::mem::replace(&mut self.in_integral, true);
        let body = self.nested(Self::sum);
        self.in_integral = outer;
        let is_d = |t: &Tree| matches!(t, Tree::Symbol(name) if name.starts_with("d:"));
        let body = match body? {
            // `∫ x + a dx`: the last term carries dx for all.
            Tree::Sum(mut terms) if terms.len() > 1 && !terms[0].any(&is_d) => {
                let last = terms.pop()?;
                let (d, rest): (Vec<_>, Vec<_>) = match last {
                    Tree::Product(factors) => factors.into_iter().partition(is_d),
                    one => vec![one].into_iter().partition(is_d),
                };
                terms.push(match rest.len() {
                    0 => Tree::integer(1),
                    _ => one_or(rest, Tree::Product),
                });
                let mut factors = vec![Tree::Sum(terms)];
                factors.extend(d);
                one_or(factors, Tree::Product)
            }
            other => other,
        };
        let mut parts = vec![body];
        parts.extend(from);
        parts.extend(to);
        Some(Tree::Opaque("integral", parts))
    }

    fn series(&mut self, product: bool) -> Option<Tree> {
        let (below, above) = self.bounds()?;
        let body = Box::new(self.nested(Self::product)?);
        let (index, from) = match below? {
            Tree::Relation { mut sides, .. } if sides.len() == 2 => {
                let from = sides.pop()?;
                match sides.pop()? {
                    Tree::Symbol(name) => (name, from),
                    Tree::Constant(Constant::I) => ("i".to_owned(), from),
                    _ => return None,
                }
            }
            other => {
                let name = Tree::Symbol(if product { "∏" } else { "∑" }.to_owned());
                return Some(Tree::Opaque("series", vec![name, other, *body]));
            }
        };
        Some(Tree::Series {
            product,
            index,
            from: Box::new(from),
            to: Box::new(above?),
            body,
        })
    }

    fn limit(&mut self) -> Option<Tree> {
        let mut name = String::new();
        if self.take(&T::Under) {
            let from = self.tokens.get(self.at)?.start;
            self.skip_group();
            let to = self.tokens.get(self.at - 1)?.end;
            name = self.text[from..to]
                .replace("\\rightarrow", "→")
                .replace("\\Rightarrow", "→")
                .replace("\\longrightarrow", "→")
                .replace("\\to", "→")
                .chars()
                .filter(|c| !matches!(c, '{' | '}' | ' '))
                .collect();
        }
        let of = self.nested(Self::product)?;
        Some(Tree::Opaque("limit", vec![Tree::Symbol(name), of]))
    }
}

/// Words as a value where they name one, else as words.
fn said(text: &str) -> Tree {
    words::meaning(text).unwrap_or_else(|| Tree::Text(words::sequence(text).join(" ")))
}
