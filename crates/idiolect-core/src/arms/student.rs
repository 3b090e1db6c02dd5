//! What the student can be trained on: a row that it cannot take represents no arm, so that what is
//! matched is what is trained.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use crate::record::ArmRow;
use idiolect_model::RowErrorKind;

/// Whether a student can be trained on a row.
#[derive(Clone, Copy)]
pub struct Student<'a> {
    takes: &'a dyn Fn(&ArmRow) -> Result<(), RowErrorKind>,
}

impl<'a> Student<'a> {
    /// A student that can be trained on the rows for which `takes` finds no fault.
    pub fn new(takes: &'a dyn Fn(&ArmRow) -> Result<(), RowErrorKind>) -> Self {
        Self { takes }
    }
}

impl fmt::Debug for Student<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Student")
    }
}

/// A trace, and where the part that is trained on ends if it is not all.
type Learnt = (String, Option<usize>);

/// A student that is asked about each row once.
#[derive(Clone, Debug)]
pub(super) struct Asked<'a> {
    student: Student<'a>,
    /// What is wrong with each, where something is.
    answers: RefCell<BTreeMap<Learnt, Option<RowErrorKind>>>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(student: Student<'a>) -> Self {
        Self {
            student,
            answers: RefCell::default(),
        }
    }

    /// What is wrong with a row for the student; `None` where it can be trained on it.
    pub(super) fn fault(&self, row: &ArmRow) -> Option<RowErrorKind> {
        let key = (row.trace_id.clone(), row.spans.first().map(|s| s.start));
        if let Some(known) = self.answers.borrow().get(&key) {
            return *known;
        }
        let fault = (self.student.takes)(row).err();
        self.answers.borrow_mut().insert(key, fault);
        fault
    }

    /// The traces that it was found not to take, by kind of fault.
    pub(super) fn refused(&self) -> BTreeMap<String, usize> {
        let answers = self.answers.borrow();
        let mut faults: BTreeMap<&str, RowErrorKind> = BTreeMap::new();
        for ((trace, _), fault) in answers.iter() {
            if let Some(fault) = fault {
                faults.entry(trace).or_insert(*fault);
            }
        }
        let mut counts = BTreeMap::new();
        for fault in faults.into_values() {
            *counts.entry(fault.name().to_owned()).or_default() += 1;
        }
        counts
    }
}
