//! Tokens into a tree.
//!
//! Precedence, from loose to tight: lists, relations, ratios, set operations, sums, products,
//! signs, powers. Nesting and length are bounded; what cannot be read gives `None`.

use super::token::{T, Token};
use super::tree::{Constant, Function, Sign, Tree};
use super::{unit, words};

/// Deeper nesting is not read.
const MAX_DEPTH: usize = 48;
/// Longer answers are not read.
const MAX_TOKENS: usize = 1500;

/// What was read, and what could have been read otherwise.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parsed {
    pub(crate) tree: Tree,
    /// A `/` that implicit factors follow: `1/2x`.
    pub(crate) ambiguous_slash: bool,
}

/// Reads a whole answer. `other_slash` takes the second reading of an ambiguous `/`.
pub(crate) fn parse(text: &str, tokens: &[Token], other_slash: bool) -> Option<Parsed> {
    if tokens.is_empty() || tokens.len() > MAX_TOKENS {
        return None;
    }
    let mut parser = Parser {
        text,
        tokens,
        at: 0,
        letter: 0,
        depth: 0,
        bars: 0,
        other_slash,
        ambiguous_slash: false,
        in_integral: false,
        after_quantity: false,
    };
    let tree = parser.answers()?;
    parser.peek().is_none().then_some(Parsed {
        tree,
        ambiguous_slash: parser.ambiguous_slash,
    })
}

pub(crate) struct Parser<'a> {
    pub(crate) text: &'a str,
    pub(crate) tokens: &'a [Token],
    pub(crate) at: usize,
    /// Letters of the word at `at` that are taken.
    pub(crate) letter: usize,
    depth: usize,
    /// Open `|`.
    pub(crate) bars: usize,
    other_slash: bool,
    ambiguous_slash: bool,
    pub(crate) in_integral: bool,
    /// Whether a quantity is before the item: `9min 45s`.
    after_quantity: bool,
}

impl<'a> Parser<'a> {
    pub(crate) fn peek(&self) -> Option<&'a T> {
        self.tokens.get(self.at).map(|t| &t.kind)
    }

    pub(crate) fn peek_at(&self, ahead: usize) -> Option<&'a T> {
        self.tokens.get(self.at + ahead).map(|t| &t.kind)
    }

    pub(crate) fn bump(&mut self) {
        self.at += 1;
        self.letter = 0;
    }

    pub(crate) fn take(&mut self, kind: &T) -> bool {
        let taken = self.letter == 0 && self.peek() == Some(kind);
        if taken {
            self.bump();
        }
        taken
    }

    /// Reads one level deeper.
    pub(crate) fn nested<R>(&mut self, read: impl FnOnce(&mut Self) -> Option<R>) -> Option<R> {
        if self.depth == MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// Answers beside each other: groups between `;`, items between `,`, "and" and wide spaces.
    fn answers(&mut self) -> Option<Tree> {
        let mut groups = vec![self.items()?];
        while self.take(&T::Semicolon) {
            if self.peek().is_none() {
                break;
            }
            groups.push(self.items()?);
        }
        if groups.len() == 1 {
            return Some(one_or(groups.pop()?, Tree::List));
        }
        let tuple = |items: Vec<Tree>| match items.len() {
            1 => items.into_iter().next().unwrap_or(Tree::List(Vec::new())),
            _ => Tree::Bracketed {
                open: '(',
                items,
                close: ')',
            },
        };
        Some(Tree::List(groups.into_iter().map(tuple).collect()))
    }

    /// Items up to what closes them.
    pub(crate) fn items(&mut self) -> Option<Vec<Tree>> {
        let mut items = Vec::new();
        loop {
            while matches!(self.peek(), Some(T::Comma | T::And | T::Quad)) {
                self.bump();
            }
            self.after_quantity =
                matches!(items.last(), Some(Tree::Quantity(_, name)) if unit::of(name).is_some());
            match self.peek() {
                None | Some(T::Semicolon | T::Close(_)) => break,
                Some(T::Ellipsis) => {
                    self.bump();
                    items.push(Tree::Symbol("…".to_owned()));
                }
                _ => items.push(self.item()?),
            }
            let separated = matches!(self.peek(), Some(T::Comma | T::And | T::Quad));
            if !(separated || self.number_apart(items.last())) {
                break;
            }
        }
        self.after_quantity = false;
        (!items.is_empty()).then(|| compounds(items))
    }

    /// `1 2`, `2 hours 30 minutes`: a number that is apart begins another item.
    fn number_apart(&self, last: Option<&Tree>) -> bool {
        if self.letter > 0 || !matches!(self.peek(), Some(T::Number { .. })) {
            return false;
        }
        let before = self.at.checked_sub(1).map(|i| &self.tokens[i].kind);
        match last {
            Some(Tree::Quantity(_, name)) => unit::of(name).is_some(),
            _ => matches!(before, Some(T::Number { .. })) && self.tokens[self.at].spaced,
        }
    }

    /// A relation, what announces it and the unit or remark after it.
    pub(crate) fn item(&mut self) -> Option<Tree> {
        self.skip_announcement();
        let tree = self.nested(Self::relation)?;
        Some(match self.trailing_words() {
            Some(remark) => with_remark(tree, &remark),
            None => tree,
        })
    }

    /// `\text{The answer is }4`, `Answer: 4`: the words before the value.
    fn skip_announcement(&mut self) {
        if matches!(self.peek(), Some(T::Approx | T::Sign(Sign::Equal))) {
            self.bump();
        }
        let at = self.at;
        let mut said = String::new();
        let mut text = false;
        while let Some(kind) = self.peek() {
            match kind {
                T::Text(word) => {
                    text = true;
                    said.push_str(word);
                }
                T::Word(word) if self.letter == 0 && self.is_prose(word) => said.push_str(word),
                T::Colon if !said.is_empty() => said.push(':'),
                _ => break,
            }
            said.push(' ');
            self.at += 1;
        }
        if self.at == at {
            return;
        }
        let value = matches!(
            self.peek(),
            Some(
                T::Number { .. }
                    | T::Time(_)
                    | T::Minus
                    | T::Fraction
                    | T::Sqrt
                    | T::Currency
                    | T::Constant(_)
                    | T::Open(_)
                    | T::Signs { .. }
            )
        );
        let mut words = words::sequence(&said);
        // `sequence` drops the colon that closes it.
        if said.trim_end().ends_with(':') {
            words.push(":".to_owned());
        }
        let name = match self.peek() {
            Some(T::Word(word)) => text && !self.is_prose(word),
            Some(T::Symbol(_) | T::Function(_)) => text,
            _ => false,
        };
        if !((value || name) && words::announces(&words)) {
            self.at = at;
        }
    }

    /// Words that follow an expression: a unit or a remark.
    fn trailing_words(&mut self) -> Option<String> {
        let starts = match self.peek()? {
            T::Text(_) | T::Currency | T::Degree => true,
            T::Word(word) if self.letter == 0 && words::scale(&word.to_lowercase()).is_some() => {
                true
            }
            T::Word(word) if self.letter == 0 => {
                self.is_prose(word)
                    || words::is_unit(
                        word,
                        self.tokens[self.at].spaced
                            || self.after_group()
                            || self.after_quantity
                            || self.before_quantity(),
                    )
            }
            T::Open('{') => self.braced_unit(),
            _ => false,
        };
        if !starts {
            return None;
        }
        let from = self.tokens[self.at].start;
        while let Some(kind) = self.peek() {
            if *kind == T::Open('{') && self.braced_unit() {
                self.at += 3;
                continue;
            }
            let goes_on = match kind {
                T::Text(_)
                | T::Word(_)
                | T::Currency
                | T::Minus
                | T::Slash
                | T::Caret
                | T::Function(_)
                | T::Symbol(_)
                | T::Prime
                | T::Times
                | T::Degree
                | T::Unknown => true,
                // The power of a unit; any other number ends the remark.
                T::Number { .. } => {
                    let before = &self.tokens[self.at - 1];
                    let raised = self.at >= 2 && self.tokens[self.at - 2].kind == T::Caret;
                    before.kind == T::Caret || (before.kind == T::Minus && raised)
                }
                T::Percent => true,
                T::Open(_) | T::Close(_) | T::Mod => false,
                _ => false,
            };
            if !goes_on {
                break;
            }
            self.bump();
            if matches!(self.tokens[self.at - 1].kind, T::Caret) && self.take(&T::Open('{')) {
                while !matches!(self.peek(), None | Some(T::Close('}'))) {
                    self.bump();
                }
                self.take(&T::Close('}'));
            }
        }
        let to = self.tokens[self.at - 1].end.max(from);
        let remark = self.text[from..to]
            .replace("\\cdot", "·")
            .replace("\\times", "·");
        Some(words::plain(&remark).trim().to_owned())
    }

    /// `800{ml}`: a unit whose `\text` was lost.
    fn braced_unit(&self) -> bool {
        let unit = match self.peek_at(1) {
            Some(T::Word(word)) => words::is_unit(word, true) || word.len() > 3,
            _ => false,
        };
        let before = self.at.checked_sub(1).map(|i| &self.tokens[i].kind);
        unit && self.peek_at(2) == Some(&T::Close('}'))
            && matches!(before, Some(T::Number { .. } | T::Close(_)))
    }

    /// Whether a word at this place is prose.
    pub(crate) fn is_prose(&self, word: &str) -> bool {
        words::is_prose(word, self.at == 0 || self.tokens[self.at].spaced)
    }

    /// Whether a number with a unit follows the word: `9m 50cm`.
    fn before_quantity(&self) -> bool {
        let apart = self.tokens.get(self.at + 1).is_some_and(|t| t.spaced);
        matches!(self.peek_at(1), Some(T::Number { .. }))
            && apart
            && matches!(self.peek_at(2), Some(T::Word(word) | T::Text(word)) if unit::of(word).is_some())
    }

    fn after_group(&self) -> bool {
        self.at > 0 && matches!(self.tokens[self.at - 1].kind, T::Close(_) | T::Open('{'))
    }

    /// `a = b < c`. What is after ≈ is dropped where something exact is before it.
    fn relation(&mut self) -> Option<Tree> {
        let mut sides = vec![self.ratio()?];
        let mut signs = Vec::new();
        loop {
            match self.peek() {
                Some(T::Sign(sign)) => {
                    self.bump();
                    // `= = 5`, and `x = ` at the end.
                    if self.peek().is_none() && sides.len() == 1 {
                        break;
                    }
                    signs.push(*sign);
                    let side = match sign {
                        Sign::In | Sign::NotIn => self.members()?,
                        _ => self.ratio()?,
                    };
                    sides.push(side);
                }
                Some(T::Approx) => {
                    self.bump();
                    let about = self.ratio()?;
                    if sides.len() == 1 && is_name(&sides[0]) {
                        signs.push(Sign::Equal);
                        sides.push(about);
                    }
                }
                _ => break,
            }
        }
        Some(if sides.len() == 1 {
            sides.pop()?
        } else {
            Tree::Relation { sides, signs }
        })
    }

    /// What `∈` names; bare items are its members.
    fn members(&mut self) -> Option<Tree> {
        let first = self.ratio()?;
        if self.peek() != Some(&T::Comma) || is_set(&first) {
            return Some(first);
        }
        let mut items = vec![first];
        while self.take(&T::Comma) {
            items.push(self.ratio()?);
        }
        Some(Tree::Set(items))
    }

    fn ratio(&mut self) -> Option<Tree> {
        let first = self.sets()?;
        if self.peek() != Some(&T::Colon) {
            return Some(first);
        }
        let mut terms = vec![first];
        while self.take(&T::Colon) {
            terms.push(self.sets()?);
        }
        Some(Tree::Ratio(terms))
    }

    fn sets(&mut self) -> Option<Tree> {
        let mut left = self.sum()?;
        while let Some(T::Sets(operation)) = self.peek() {
            self.bump();
            let right = self.sum()?;
            left = Tree::Sets(*operation, Box::new((as_set(left), as_set(right))));
        }
        Some(left)
    }

    pub(crate) fn sum(&mut self) -> Option<Tree> {
        let mut terms = vec![self.term()?];
        loop {
            match self.peek() {
                Some(T::Plus) => {
                    self.bump();
                    // `1,+∞` and a trailing plus.
                    terms.push(self.term()?);
                }
                Some(T::Minus) => {
                    self.bump();
                    terms.push(self.product()?.negated());
                }
                Some(T::Signs { .. }) => terms.push(self.term()?),
                Some(T::Ellipsis) if terms.len() > 1 => {
                    self.bump();
                    terms.push(Tree::Symbol("…".to_owned()));
                }
                _ => break,
            }
        }
        let sum = one_or(terms, Tree::Sum);
        if self.take(&T::Over) {
            let below = self.nested(Self::sum)?;
            return Some(sum.over(below));
        }
        Some(sum)
    }

    fn term(&mut self) -> Option<Tree> {
        if let Some(T::Signs { flipped }) = self.peek() {
            self.bump();
            let of = Box::new(self.product()?);
            return Some(Tree::Signs {
                of,
                flipped: *flipped,
            });
        }
        if self.peek() == Some(&T::Ellipsis) {
            self.bump();
            return Some(Tree::Symbol("…".to_owned()));
        }
        self.product()
    }

    pub(crate) fn product(&mut self) -> Option<Tree> {
        let mut factors = vec![self.unary()?];
        // Words have no factors.
        if let Some(Tree::Text(_)) = factors.first() {
            return factors.pop();
        }
        loop {
            match self.peek() {
                Some(T::Times) => {
                    self.bump();
                    if self.peek() == Some(&T::Ellipsis) {
                        self.bump();
                        factors.push(Tree::Symbol("…".to_owned()));
                    } else {
                        factors.push(self.unary()?);
                    }
                }
                Some(T::Slash) => {
                    self.bump();
                    let mut below = vec![self.unary()?];
                    if self.starts_factor() {
                        self.ambiguous_slash = true;
                        let number = |t: &Tree| matches!(t, Tree::Number { .. });
                        let numbers = factors.last().is_some_and(number) && number(&below[0]);
                        if numbers == self.other_slash {
                            while self.starts_factor() {
                                below.push(self.power()?);
                            }
                        }
                    }
                    let above = one_or(factors, Tree::Product);
                    factors = vec![above.over(one_or(below, Tree::Product))];
                }
                Some(T::Mod) => {
                    self.bump();
                    let by = self.unary()?;
                    let of = one_or(factors, Tree::Product);
                    factors = vec![Tree::Apply(Function::Mod, vec![of, by])];
                }
                Some(T::Pmod) => {
                    // The class is named by its representative.
                    self.bump();
                    self.nested(Self::argument)?;
                }
                _ if self.starts_factor() => factors.push(self.power()?),
                _ => break,
            }
        }
        if factors.len() > 1 {
            // `\{1+2\}\{3-4\}`: braces that group.
            for factor in &mut factors {
                if let Tree::Set(items) = factor
                    && items.len() == 1
                    && let Some(item) = items.pop()
                {
                    *factor = item;
                }
            }
        }
        Some(one_or(factors, Tree::Product))
    }

    /// Whether a factor follows without a sign between.
    fn starts_factor(&self) -> bool {
        let Some(kind) = self.peek() else {
            return false;
        };
        let before = self
            .at
            .checked_sub(1)
            .and_then(|i| self.tokens.get(i))
            .map(|t| &t.kind);
        match kind {
            // `2^6 3^5`: a number after an exponent.
            T::Number { .. } => match before {
                Some(T::Number { .. }) => {
                    let raised = self.at >= 2 && self.tokens[self.at - 2].kind == T::Caret;
                    raised && self.tokens[self.at].spaced
                }
                _ => true,
            },
            T::Open('{') if self.braced_unit() => false,
            T::Word(word) if self.letter == 0 => {
                let compound = self.before_quantity();
                let spaced = self.tokens[self.at].spaced || self.after_quantity || compound;
                let after_value = matches!(before, Some(T::Number { .. } | T::Close(_)));
                !(self.is_prose(word)
                    || (after_value
                        && words::is_unit(word, spaced)
                        && (compound || self.ends_after_unit())))
            }
            T::Bar => self.bars == 0,
            T::Open(_)
            | T::Word(_)
            | T::Symbol(_)
            | T::Constant(_)
            | T::Function(_)
            | T::Fraction
            | T::Binomial
            | T::Sqrt
            | T::Accent(_)
            | T::Begin(_)
            | T::Based { .. }
            | T::Series { .. }
            | T::DoubleBar
            | T::Integral
            | T::Limit => true,
            _ => false,
        }
    }

    /// Whether nothing but words and powers follows up to the end of the item.
    fn ends_after_unit(&self) -> bool {
        let rest = self.tokens[self.at + 1..].iter().map(|t| &t.kind);
        let mut rest =
            rest.take_while(|k| !matches!(k, T::Comma | T::Semicolon | T::Close(_) | T::And));
        rest.all(|k| {
            matches!(
                k,
                T::Word(_)
                    | T::Text(_)
                    | T::Caret
                    | T::Number { .. }
                    | T::Slash
                    | T::Times
                    | T::Open('{')
            )
        })
    }

    fn unary(&mut self) -> Option<Tree> {
        match self.peek()? {
            T::Minus => {
                self.bump();
                self.nested(Self::unary).map(Tree::negated)
            }
            T::Plus => {
                self.bump();
                self.nested(Self::unary)
            }
            T::Currency => {
                self.bump();
                self.nested(Self::unary)
            }
            _ => self.power(),
        }
    }

    /// An atom with what is raised, lowered or after it.
    pub(crate) fn power(&mut self) -> Option<Tree> {
        let mut base = self.nested(Self::atom)?;
        loop {
            if self.letter > 0 {
                return Some(base);
            }
            base = match self.peek() {
                // "It costs $72.75!"
                Some(T::Bang)
                    if matches!(
                        base,
                        Tree::Number {
                            decimals: Some(_),
                            ..
                        }
                    ) =>
                {
                    self.bump();
                    base
                }
                Some(T::Bang) => {
                    let mut marks = 0;
                    while self.take(&T::Bang) {
                        marks += 1;
                    }
                    match marks {
                        2 => Tree::Apply(Function::DoubleFactorial, vec![base]),
                        _ if marks > MAX_DEPTH => return None,
                        _ => (0..marks)
                            .fold(base, |of, _| Tree::Apply(Function::Factorial, vec![of])),
                    }
                }
                Some(T::Percent) => {
                    self.bump();
                    Tree::Percent(Box::new(base))
                }
                Some(T::Degree) => {
                    self.bump();
                    self.degrees(base)
                }
                Some(T::Prime) => {
                    self.bump();
                    match base {
                        Tree::Symbol(name) => Tree::Symbol(name + "'"),
                        // Feet, minutes or a derivative of a number.
                        Tree::Number { .. } => Tree::Unread(Box::new(base), "prime".to_owned()),
                        other => other,
                    }
                }
                Some(T::Under) => {
                    self.bump();
                    self.subscript(base)?
                }
                Some(T::Caret) => {
                    self.bump();
                    self.raised(base)?
                }
                // f'(x)
                Some(T::Open('(')) => match base {
                    Tree::Symbol(name) if name.ends_with('\'') => {
                        let arguments = self.nested(Self::bracket_items)?;
                        Tree::Call(name, arguments)
                    }
                    other => return Some(other),
                },
                _ => return Some(base),
            };
        }
    }

    /// Degrees of an angle, or of the scale of temperature that follows.
    fn degrees(&mut self, of: Tree) -> Tree {
        // 34°56'
        if let (Some(T::Number { value, .. }), Some(T::Prime)) = (self.peek(), self.peek_at(1)) {
            let sixty = Tree::integer(60);
            let mut parts = vec![of, Tree::exact(value.clone()).over(sixty)];
            self.at += 2;
            if let (Some(T::Number { value, .. }), Some(T::Prime), Some(T::Prime)) =
                (self.peek(), self.peek_at(1), self.peek_at(2))
            {
                parts.push(Tree::exact(value.clone()).over(Tree::integer(3600)));
                self.at += 3;
            }
            return Tree::Degrees(Box::new(Tree::Sum(parts)));
        }
        let scale = match self.peek() {
            Some(T::Word(word) | T::Text(word)) => word.as_str(),
            _ => "",
        };
        let scale = match scale {
            "C" | "c" | "Celsius" | "celsius" => "°c",
            "F" | "f" | "Fahrenheit" | "fahrenheit" => "°f",
            _ => return Tree::Degrees(Box::new(of)),
        };
        self.bump();
        Tree::Quantity(Box::new(of), scale.to_owned())
    }

    /// The two letters of 12th: an ordinal is its number.
    fn ordinal(&mut self) -> bool {
        let is_ending = |kind: Option<&T>| matches!(kind, Some(T::Word(w) | T::Text(w)) if matches!(w.as_str(), "th" | "st" | "nd" | "rd"));
        let length = match self.peek() {
            Some(T::Open('{'))
                if is_ending(self.peek_at(1)) && self.peek_at(2) == Some(&T::Close('}')) =>
            {
                3
            }
            kind if is_ending(kind) => 1,
            _ => return false,
        };
        self.at += length;
        true
    }

    fn raised(&mut self, base: Tree) -> Option<Tree> {
        if self.take(&T::Degree) {
            return Some(self.degrees(base));
        }
        if matches!(base, Tree::Number { .. }) && self.ordinal() {
            return Some(base);
        }
        if self.peek() == Some(&T::Open('{')) {
            match (self.peek_at(1), self.peek_at(2)) {
                (Some(T::Degree), Some(T::Close('}'))) => {
                    self.at += 3;
                    return Some(self.degrees(base));
                }
                (Some(T::Prime), Some(T::Close('}'))) => {
                    self.at += 3;
                    return Some(match base {
                        Tree::Symbol(name) => Tree::Symbol(name + "'"),
                        other => other,
                    });
                }
                (Some(T::Close('}')), _) => {
                    self.at += 2;
                    return Some(base);
                }
                _ => {}
            }
        }
        let exponent = match self.peek()? {
            T::Open('{') => self.nested(Self::argument)?,
            T::Minus => {
                self.bump();
                self.nested(Self::power)?.negated()
            }
            T::Plus => {
                self.bump();
                self.nested(Self::power)?
            }
            T::Times => {
                self.bump();
                Tree::Symbol("*".to_owned())
            }
            // What is lowered after a number belongs to the base: `x^2_1`.
            T::Number { value, decimals } => {
                let number = Tree::Number {
                    value: value.clone(),
                    decimals: *decimals,
                };
                self.bump();
                match self.peek() {
                    Some(T::Caret) => {
                        self.bump();
                        self.nested(|p| p.raised(number))?
                    }
                    _ => number,
                }
            }
            _ => self.nested(Self::power)?,
        };
        // `x^2_1` names x_1.
        let base = match base {
            symbol @ Tree::Symbol(_) if self.letter == 0 && self.take(&T::Under) => {
                self.subscript(symbol)?
            }
            other => other,
        };
        Some(base.raised_to(exponent))
    }

    /// Appends what follows `_` to a name.
    fn subscript(&mut self, base: Tree) -> Option<Tree> {
        let from = self.tokens.get(self.at)?.start;
        match self.peek()? {
            T::Open('{') => {
                let mut depth = 0usize;
                loop {
                    match self.peek()? {
                        T::Open('{') => depth += 1,
                        T::Close('}') => depth -= 1,
                        _ => {}
                    }
                    self.bump();
                    if depth == 0 {
                        break;
                    }
                }
            }
            // Only the first letter of `x_ab` is lowered.
            T::Word(word) if word.len() > 1 => {
                let letter = word[..1].to_owned();
                self.letter = 1;
                return self.named(base, &letter);
            }
            _ => self.bump(),
        }
        let to = self.tokens.get(self.at - 1)?.end;
        let raw: String = self.text[from..to]
            .chars()
            .filter(|c| !matches!(c, '{' | '}' | ' ' | '\\'))
            .collect();
        self.named(base, &raw)
    }

    fn named(&mut self, base: Tree, lowered: &str) -> Option<Tree> {
        Some(match base {
            Tree::Symbol(name) => Tree::Symbol(format!("{name}_{lowered}")),
            Tree::Constant(Constant::E) => Tree::Symbol(format!("e_{lowered}")),
            Tree::Constant(Constant::I) => Tree::Symbol(format!("i_{lowered}")),
            Tree::Constant(Constant::Pi) => Tree::Symbol(format!("pi_{lowered}")),
            Tree::Call(name, arguments) => Tree::Call(format!("{name}_{lowered}"), arguments),
            other => Tree::Call(format!("_{lowered}"), vec![other]),
        })
    }
}

/// A value with the words after it: multiplied by "million", a percentage, a time of day, digits of
/// a base, or a quantity. Words that change a value otherwise are not read.
fn with_remark(tree: Tree, remark: &str) -> Tree {
    let words = words::sequence(remark);
    let mut rest = &words[..];
    let mut tree = tree;
    match remark {
        "degree" | "degrees" => return Tree::Degrees(Box::new(tree)),
        "radian" | "radians" | "rad" => {
            return Tree::Quantity(Box::new(tree), "radians".to_owned());
        }
        _ => {}
    }
    while let Some(scale) = rest.first().and_then(|w| words::scale(w)) {
        tree = Tree::Product(vec![tree, Tree::integer(scale)]);
        rest = &rest[1..];
    }
    if rest.len() < words.len() && rest.first().is_some_and(|w| w == "of") {
        rest = &rest[1..];
    }
    if let [first, more @ ..] = rest
        && matches!(first.as_str(), "percent" | "pct" | "percentage" | "%")
    {
        tree = Tree::Percent(Box::new(tree));
        rest = match more.first().map(String::as_str) {
            Some("point" | "points") => &more[1..],
            _ => more,
        };
    }
    if rest.is_empty() {
        return tree;
    }
    if rest.len() == words.len() {
        if let Tree::Number {
            value,
            decimals: None,
        } = &tree
            && let Some(hour) = value.to_i64().and_then(|n| u32::try_from(n).ok())
            && let Some(clock) = words::on_clock(hour, remark)
        {
            return Tree::Time(clock);
        }
        if let Some(name) = unit::before_remark(remark) {
            return Tree::Quantity(Box::new(tree), name.to_owned());
        }
    }
    let spoken = rest.join(" ");
    // `45 units^2`
    let rest = match rest {
        [words @ .., caret, power] if caret == "^" && matches!(power.as_str(), "2" | "3") => words,
        all => all,
    };
    if unit::of(&spoken).is_none() && words::changes_value(rest) {
        return match in_base(&tree, rest) {
            Some(based) => based,
            None => Tree::Unread(Box::new(tree), spoken),
        };
    }
    Tree::Quantity(Box::new(tree), spoken)
}

/// "base two" after digits.
fn in_base(tree: &Tree, words: &[String]) -> Option<Tree> {
    let words = match words {
        [preposition, rest @ ..] if preposition == "in" => rest,
        all => all,
    };
    let [base, number] = words else { return None };
    let Tree::Number {
        value,
        decimals: None,
    } = tree
    else {
        return None;
    };
    let base_value = (base == "base").then(|| words::number(number))??;
    let base = u32::try_from(base_value.to_i64()?).ok()?;
    let digits = value.magnitude().to_string();
    let fits = digits
        .chars()
        .all(|c| c.to_digit(36).is_some_and(|d| d < base));
    (fits && (2..=36).contains(&base)).then(|| Tree::Based {
        digits,
        base,
        negative: value.is_negative(),
    })
}

/// Quantities beside each other of one kind, each in a smaller unit than the one before, are one:
/// 2 hours 30 minutes.
fn compounds(items: Vec<Tree>) -> Vec<Tree> {
    let mut joined: Vec<Tree> = Vec::with_capacity(items.len());
    for item in items {
        let (value, measure) = match &item {
            Tree::Quantity(value, name) if value.is_expression() => match unit::of(name) {
                Some(measure) => ((**value).clone(), measure),
                None => {
                    joined.push(item);
                    continue;
                }
            },
            _ => {
                joined.push(item);
                continue;
            }
        };
        let smaller = |last: &unit::Unit| measure.is_like(last) && last.factor > measure.factor;
        match joined.last_mut() {
            Some(Tree::Compound(parts)) if parts.last().is_some_and(|(_, u)| smaller(u)) => {
                parts.push((value, measure));
            }
            Some(last) => {
                let first = match &*last {
                    Tree::Quantity(first, name) if first.is_expression() => unit::of(name)
                        .filter(smaller)
                        .map(|u| ((**first).clone(), u)),
                    _ => None,
                };
                match first {
                    Some(first) => *last = Tree::Compound(vec![first, (value, measure)]),
                    None => joined.push(item),
                }
            }
            None => joined.push(item),
        }
    }
    joined
}

/// The only item, or all of them joined.
pub(crate) fn one_or(mut items: Vec<Tree>, join: fn(Vec<Tree>) -> Tree) -> Tree {
    match items.len() {
        1 => items.remove(0),
        _ => join(items),
    }
}

/// Whether a tree only names something: no number outside the arguments of a call.
pub(crate) fn is_name(tree: &Tree) -> bool {
    match tree {
        Tree::Call(..) => true,
        Tree::Number { .. }
        | Tree::Constant(Constant::Infinity | Constant::Pi)
        | Tree::Set(_)
        | Tree::Matrix(_)
        | Tree::Relation { .. } => false,
        other => other.parts().into_iter().all(is_name),
    }
}

fn is_set(tree: &Tree) -> bool {
    matches!(tree, Tree::Set(_) | Tree::Sets(..) | Tree::Bracketed { .. })
}

/// `[0,1] \setminus 0.5`: an element beside a set operation is the set of it.
fn as_set(tree: Tree) -> Tree {
    let element = matches!(
        tree,
        Tree::Number { .. } | Tree::Negative(_) | Tree::Quotient(_)
    );
    if element { Tree::Set(vec![tree]) } else { tree }
}
