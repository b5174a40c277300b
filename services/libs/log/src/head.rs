use std::collections::BTreeSet;

use crate::Offset;

/// The contiguous head of finished work: everything before it is done, and may be committed.
#[derive(Debug)]
pub struct Head {
    begun: BTreeSet<Offset>,
    next: Offset,
}

impl Head {
    /// Begins at the first offset that will be delivered.
    pub fn new(position: Offset) -> Self {
        Self { begun: BTreeSet::new(), next: position }
    }

    /// A record was delivered.
    pub fn begin(&mut self, offset: Offset) {
        self.begun.insert(offset);
        self.next = self.next.max(offset + 1);
    }

    /// A record is done with.
    pub fn finish(&mut self, offset: Offset) {
        self.begun.remove(&offset);
    }

    /// The first offset that is not done with.
    pub fn position(&self) -> Offset {
        self.begun.first().copied().unwrap_or(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_before_the_first_unfinished_record() {
        let mut head = Head::new(5);
        assert_eq!(head.position(), 5);
        for offset in [5, 6, 8] {
            head.begin(offset);
        }
        head.finish(6);
        assert_eq!(head.position(), 5);
        head.finish(5);
        assert_eq!(head.position(), 8);
        head.finish(8);
        assert_eq!(head.position(), 9);
    }
}
