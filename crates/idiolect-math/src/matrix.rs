//! Sums, products and multiples of matrices, carried out on their entries.

use super::tree::{Function, Tree};

/// More entries than this are not carried through a product.
const MAX_ENTRIES: usize = 100;

type Rows = Vec<Vec<Tree>>;

/// The matrix that an expression comes to; `None` where it is a number or the shapes do not fit.
pub(crate) fn of(tree: &Tree) -> Option<Rows> {
    match tree {
        Tree::Matrix(rows) => {
            let width = rows.first()?.len();
            let even = rows.iter().all(|r| r.len() == width);
            (even && width * rows.len() <= MAX_ENTRIES).then(|| rows.clone())
        }
        Tree::Negative(inner) => Some(scaled(&Tree::integer(-1), of(inner)?)),
        Tree::Quantity(inner, _) => of(inner),
        Tree::Sum(terms) => {
            let mut total = of(terms.first()?)?;
            for term in &terms[1..] {
                total = sum(&total, &of(term)?)?;
            }
            Some(total)
        }
        Tree::Product(factors) => {
            let (mut total, mut scalar): (Option<Rows>, Vec<Tree>) = (None, Vec::new());
            for factor in factors {
                match of(factor) {
                    None => scalar.push(factor.clone()),
                    Some(rows) => {
                        total = Some(match total {
                            None => rows,
                            Some(before) => product(&before, &rows)?,
                        });
                    }
                }
            }
            let total = total?;
            Some(match scalar.len() {
                0 => total,
                _ => scaled(&Tree::Product(scalar), total),
            })
        }
        Tree::Quotient(pair) => {
            let by = Tree::integer(1).over(pair.1.clone());
            Some(scaled(&by, of(&pair.0)?))
        }
        Tree::Power(pair) => {
            // The transpose.
            match &pair.1 {
                Tree::Symbol(name) if name == "T" => {
                    let rows = of(&pair.0)?;
                    let width = rows.first()?.len();
                    Some(
                        (0..width)
                            .map(|j| rows.iter().map(|r| r[j].clone()).collect())
                            .collect(),
                    )
                }
                _ => None,
            }
        }
        Tree::Apply(Function::Norm | Function::Det, _) => None,
        _ => None,
    }
}

fn scaled(by: &Tree, rows: Rows) -> Rows {
    let entry = |t: Tree| Tree::Product(vec![by.clone(), t]);
    rows.into_iter()
        .map(|row| row.into_iter().map(entry).collect())
        .collect()
}

fn sum(a: &Rows, b: &Rows) -> Option<Rows> {
    if a.len() != b.len() || a.iter().zip(b).any(|(x, y)| x.len() != y.len()) {
        return None;
    }
    let row = |(x, y): (&Vec<Tree>, &Vec<Tree>)| {
        x.iter()
            .zip(y)
            .map(|(p, q)| Tree::Sum(vec![p.clone(), q.clone()]))
            .collect()
    };
    Some(a.iter().zip(b).map(row).collect())
}

fn product(a: &Rows, b: &Rows) -> Option<Rows> {
    let inner = b.len();
    let width = b.first()?.len();
    if a.first()?.len() != inner || a.len() * width * inner > 10 * MAX_ENTRIES {
        return None;
    }
    let entry = |row: &Vec<Tree>, j: usize| {
        Tree::Sum(
            (0..inner)
                .map(|k| Tree::Product(vec![row[k].clone(), b[k][j].clone()]))
                .collect(),
        )
    };
    Some(
        a.iter()
            .map(|row| (0..width).map(|j| entry(row, j)).collect())
            .collect(),
    )
}
