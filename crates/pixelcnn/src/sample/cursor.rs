//! Where a stepper stands: row by row, from the left, colour by colour.

/// The value that is drawn next.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cursor {
    pub(super) row: usize,
    pub(super) column: usize,
    pub(super) colour: usize,
}

impl Cursor {
    /// Moves on in images of `width` columns and `colours` colours; whether that began a row.
    pub(super) fn advance(&mut self, width: usize, colours: usize) -> bool {
        self.colour += 1;
        if self.colour == colours {
            (self.colour, self.column) = (0, self.column + 1);
        }
        let is_row_done = self.column == width;
        if is_row_done {
            (self.column, self.row) = (0, self.row + 1);
        }
        is_row_done
    }
}
