//! The A operand of a product, and weight matrices in the type in which they lie in memory.
//!
//! Products compute in f32. Of a matrix in bf16 a few rows at a time are widened beside the sums
//! that read them, which is exact: the bits are those of the same matrix in f32.

/// A weight, row by row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stored<'a> {
    F32(&'a [f32]),
    Bf16(&'a [u16]),
}

/// The value of a bf16.
#[inline(always)]
pub(crate) fn widen(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

/// Nearest bfloat16, ties to even. A NaN stays one.
pub(crate) fn f32_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return ((bits >> 16) | 0x40) as u16;
    }
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// The values of some bf16.
#[inline(always)]
pub(crate) fn widen_all(halves: &[u16], out: &mut [f32]) {
    for (value, half) in out.iter_mut().zip(halves) {
        *value = widen(*half);
    }
}

impl<'a> Stored<'a> {
    pub(crate) fn len(self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(halves) => halves.len(),
        }
    }

    /// Without the first values.
    pub(crate) fn skip(self, n: usize) -> Self {
        match self {
            Self::F32(values) => Self::F32(&values[n..]),
            Self::Bf16(halves) => Self::Bf16(&halves[n..]),
        }
    }

    /// Rows that are worth reading at a time: all, or so few that widened they stay in the caches.
    pub(crate) fn at_a_time(self, rows: usize) -> usize {
        match self {
            Self::F32(_) => rows,
            Self::Bf16(_) => rows.min(16),
        }
    }

    /// Floats of the buffer that [`first`](Self::first) needs for `n` values.
    pub(crate) fn workspace(self, n: usize) -> usize {
        match self {
            Self::F32(_) => 0,
            Self::Bf16(_) => n,
        }
    }

    /// The first `n` values as they are, or widened into a buffer.
    pub(crate) fn first<'b>(self, n: usize, buffer: &'b mut [f32]) -> &'b [f32]
    where
        'a: 'b,
    {
        match self {
            Self::F32(values) => &values[..n],
            Self::Bf16(halves) => {
                pulp::Arch::new().dispatch(|| widen_all(&halves[..n], buffer));
                &buffer[..n]
            }
        }
    }

    /// As an A operand whose entry (m, k) is at m·ld + k.
    pub(crate) fn row_major(self, ld: usize) -> StoredOperand<'a> {
        match self {
            Self::F32(values) => StoredOperand::F32(OperandA::row_major(values, ld)),
            Self::Bf16(halves) => StoredOperand::Bf16(Bf16Operand {
                values: halves,
                ld,
                col_major: false,
            }),
        }
    }

    /// As an A operand whose entry (m, k) is at k·ld + m.
    pub(crate) fn col_major(self, ld: usize) -> StoredOperand<'a> {
        match self {
            Self::F32(values) => StoredOperand::F32(OperandA::col_major(values, ld)),
            Self::Bf16(halves) => StoredOperand::Bf16(Bf16Operand {
                values: halves,
                ld,
                col_major: true,
            }),
        }
    }
}

/// The A operand, (m, k).
#[derive(Clone, Copy)]
pub(crate) struct OperandA<'a> {
    pub(super) values: &'a [f32],
    pub(super) ld: usize,
    /// Whether entry (m, k) lies at k·ld + m and not at m·ld + k.
    pub(super) col_major: bool,
}

impl<'a> OperandA<'a> {
    /// Entry (m, k) at m·ld + k.
    pub(crate) fn row_major(values: &'a [f32], ld: usize) -> Self {
        Self {
            values,
            ld,
            col_major: false,
        }
    }

    /// Entry (m, k) at k·ld + m.
    pub(crate) fn col_major(values: &'a [f32], ld: usize) -> Self {
        Self {
            values,
            ld,
            col_major: true,
        }
    }

    /// Whether entries of one column lie side by side.
    pub(super) fn is_col_major(self) -> bool {
        self.col_major
    }

    /// # Panics
    /// When it is shorter than (m, k); a programmer mistake.
    pub(super) fn check(self, m: usize, k: usize) {
        check_a(self.values, self.ld, self.col_major, (m, k));
    }

    /// A row-major operand from entry (i, k) on, and the leading dimension.
    pub(super) fn at(self, i: usize, k: usize) -> (&'a [f32], usize) {
        debug_assert!(!self.col_major, "read where it lies");
        (&self.values[i * self.ld + k..], self.ld)
    }

    /// [`pack_columns`] of a column-major operand.
    pub(super) fn pack(self, i: usize, size: (usize, usize), to: &mut [f32]) {
        pack_columns((self.values, self.ld), |value| value, i, size, to);
    }

    /// Without the first rows.
    pub(crate) fn skip_rows(self, rows: usize) -> Self {
        let offset = if self.col_major { rows } else { rows * self.ld };
        Self {
            values: &self.values[offset..],
            ..self
        }
    }

    /// Without the first columns.
    pub(crate) fn skip_columns(self, columns: usize) -> Self {
        let offset = if self.col_major {
            columns * self.ld
        } else {
            columns
        };
        Self {
            values: &self.values[offset..],
            ..self
        }
    }
}

/// An A operand in either type.
#[derive(Clone, Copy)]
pub(crate) enum StoredOperand<'a> {
    F32(OperandA<'a>),
    Bf16(Bf16Operand<'a>),
}

impl<'a> From<OperandA<'a>> for StoredOperand<'a> {
    fn from(a: OperandA<'a>) -> Self {
        Self::F32(a)
    }
}

/// An A operand in bf16.
#[derive(Clone, Copy)]
pub(crate) struct Bf16Operand<'a> {
    pub(super) values: &'a [u16],
    pub(super) ld: usize,
    /// Whether entry (m, k) lies at k·ld + m and not at m·ld + k.
    pub(super) col_major: bool,
}

impl StoredOperand<'_> {
    /// Whether entries of one column lie side by side.
    pub(super) fn is_col_major(self) -> bool {
        match self {
            Self::F32(a) => a.is_col_major(),
            Self::Bf16(halves) => halves.col_major,
        }
    }

    /// # Panics
    /// When it is shorter than (m, k); a programmer mistake.
    pub(super) fn check(self, m: usize, k: usize) {
        match self {
            Self::F32(a) => a.check(m, k),
            Self::Bf16(halves) => {
                check_a(halves.values, halves.ld, halves.col_major, (m, k));
            }
        }
    }

    /// Floats of the buffer that [`widened`](Self::widened) needs for `n` values.
    pub(super) fn workspace(self, n: usize) -> usize {
        match self {
            Self::F32(_) => 0,
            Self::Bf16(_) => n,
        }
    }

    /// In f32, (m, k), by way of a buffer; rows or columns must lie without gaps.
    pub(super) fn widened<'b>(self, (m, k): (usize, usize), buffer: &'b mut [f32]) -> OperandA<'b>
    where
        Self: 'b,
    {
        let halves = match self {
            Self::F32(a) => return a,
            Self::Bf16(halves) => halves,
        };
        let values = Stored::Bf16(halves.values).first(m * k, buffer);
        if halves.col_major {
            OperandA::col_major(values, m)
        } else {
            OperandA::row_major(values, k)
        }
    }

    /// [`pack_columns`] of a column-major operand.
    pub(super) fn pack(self, i: usize, size: (usize, usize), to: &mut [f32]) {
        match self {
            Self::F32(a) => a.pack(i, size, to),
            Self::Bf16(halves) => {
                pack_columns((halves.values, halves.ld), widen, i, size, to);
            }
        }
    }
}

/// # Panics
/// When an A operand's values are shorter than (m, k); a programmer mistake.
pub(super) fn check_a<T>(values: &[T], ld: usize, col_major: bool, (m, k): (usize, usize)) {
    let (rows, width) = if col_major { (k, m) } else { (m, k) };
    assert!(
        k == 0 || values.len() >= rows.saturating_sub(1) * ld + width,
        "A operand too short"
    );
}

/// Copies rows from `i` on and `k` columns of a column-major operand into panels of 8 rows,
/// (k, 8) each, as many as `to` holds; what lies beyond `m` rows in all is left as it was.
#[inline(always)]
pub(super) fn pack_columns<T: Copy>(
    (values, ld): (&[T], usize),
    value: impl Fn(T) -> f32,
    i: usize,
    (m, k): (usize, usize),
    to: &mut [f32],
) {
    let panels = to.len() / (8 * k).max(1);
    let whole = panels.min((m - i) / 8);
    let copy = |from: &[T], to: &mut [f32]| {
        for (to, from) in to.iter_mut().zip(from) {
            *to = value(*from);
        }
    };
    for (l, column) in values.chunks(ld).take(k).enumerate() {
        for p in 0..whole {
            copy(&column[i + p * 8..][..8], &mut to[(p * k + l) * 8..][..8]);
        }
        if whole < panels {
            copy(&column[i + whole * 8..m], &mut to[(whole * k + l) * 8..]);
        }
    }
}
