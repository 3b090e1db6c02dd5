//! A weight matrix in the type in which it lies in memory.
//!
//! Products compute in f32. Of a matrix in bf16 a few rows at a time are widened beside the sums
//! that read them, which is exact: the bits are those of the same matrix in f32.

use super::product::Left;

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

    #[inline(always)]
    pub(crate) fn get(self, i: usize) -> f32 {
        match self {
            Self::F32(values) => values[i],
            Self::Bf16(halves) => widen(halves[i]),
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
    pub(crate) fn room(self, n: usize) -> usize {
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

    /// As a left factor whose entry (m, k) is at m·stride + k.
    pub(crate) fn rows(self, stride: usize) -> Factor<'a> {
        match self {
            Self::F32(values) => Factor::F32(Left::rows(values, stride)),
            Self::Bf16(halves) => Factor::Bf16(Halves {
                values: halves,
                stride,
                by_columns: false,
            }),
        }
    }

    /// As a left factor whose entry (m, k) is at k·stride + m.
    pub(crate) fn columns(self, stride: usize) -> Factor<'a> {
        match self {
            Self::F32(values) => Factor::F32(Left::columns(values, stride)),
            Self::Bf16(halves) => Factor::Bf16(Halves {
                values: halves,
                stride,
                by_columns: true,
            }),
        }
    }
}

/// A left factor in either type.
#[derive(Clone, Copy)]
pub(crate) enum Factor<'a> {
    F32(Left<'a>),
    Bf16(Halves<'a>),
}

impl<'a> From<Left<'a>> for Factor<'a> {
    fn from(left: Left<'a>) -> Self {
        Self::F32(left)
    }
}

/// A left factor in bf16.
#[derive(Clone, Copy)]
pub(crate) struct Halves<'a> {
    pub(super) values: &'a [u16],
    pub(super) stride: usize,
    /// Whether entry (m, k) lies at k·stride + m and not at m·stride + k.
    pub(super) by_columns: bool,
}

impl Factor<'_> {
    /// Whether entries of one column lie side by side.
    pub(super) fn by_columns(self) -> bool {
        match self {
            Self::F32(left) => left.by_columns(),
            Self::Bf16(halves) => halves.by_columns,
        }
    }

    /// # Panics
    /// When it is shorter than (m, k); a programmer mistake.
    pub(super) fn check(self, m: usize, k: usize) {
        match self {
            Self::F32(left) => left.check(m, k),
            Self::Bf16(halves) => {
                check_left(halves.values, halves.stride, halves.by_columns, (m, k));
            }
        }
    }

    /// Floats of the buffer that [`widened`](Self::widened) needs for `n` values.
    pub(super) fn room(self, n: usize) -> usize {
        match self {
            Self::F32(_) => 0,
            Self::Bf16(_) => n,
        }
    }

    /// In f32, (m, k), by way of a buffer; rows or columns must lie without gaps.
    pub(super) fn widened<'b>(self, (m, k): (usize, usize), buffer: &'b mut [f32]) -> Left<'b>
    where
        Self: 'b,
    {
        let halves = match self {
            Self::F32(left) => return left,
            Self::Bf16(halves) => halves,
        };
        let values = Stored::Bf16(halves.values).first(m * k, buffer);
        if halves.by_columns {
            Left::columns(values, m)
        } else {
            Left::rows(values, k)
        }
    }

    /// [`pack_columns`] of a factor by columns.
    pub(super) fn pack(self, i: usize, size: (usize, usize), to: &mut [f32]) {
        match self {
            Self::F32(left) => left.pack(i, size, to),
            Self::Bf16(halves) => {
                pack_columns((halves.values, halves.stride), widen, i, size, to);
            }
        }
    }
}

/// # Panics
/// When a left factor's values are shorter than (m, k); a programmer mistake.
pub(super) fn check_left<T>(values: &[T], stride: usize, by_columns: bool, (m, k): (usize, usize)) {
    let (rows, width) = if by_columns { (k, m) } else { (m, k) };
    assert!(
        k == 0 || values.len() >= rows.saturating_sub(1) * stride + width,
        "left factor too short"
    );
}

/// Copies rows from `i` on and `k` columns of a factor by columns into panels of 8 rows,
/// (k, 8) each, as many as `to` holds; what lies beyond `m` rows in all is left as it was.
#[inline(always)]
pub(super) fn pack_columns<T: Copy>(
    (values, stride): (&[T], usize),
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
    for (l, column) in values.chunks(stride).take(k).enumerate() {
        for p in 0..whole {
            copy(&column[i + p * 8..][..8], &mut to[(p * k + l) * 8..][..8]);
        }
        if whole < panels {
            copy(&column[i + whole * 8..m], &mut to[(whole * k + l) * 8..]);
        }
    }
}
