//! Tables in a light box: header in capitals and centred, data to the right.

/// Rows under column names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: &[&str]) -> Table {
        Table { columns: columns.iter().map(|name| name.to_uppercase().replace('_', " ")).collect(), rows: Vec::new() }
    }

    /// Adds a row, a cell for each column.
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "a cell for each column");
        self.rows.push(cells);
    }

    /// The text.
    pub fn render(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| &row[column]).chain([&self.columns[column]]);
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let rule = |ends: [char; 3]| {
            let lines: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
            format!("{}{}{}\n", ends[0], lines.join(&ends[1].to_string()), ends[2])
        };
        let line = |cells: &[String], centred: bool| {
            let pad = |(cell, width): (&String, &usize)| {
                let width = *width;
                if centred { format!(" {cell:^width$} ") } else { format!(" {cell:>width$} ") }
            };
            let cells: Vec<String> = cells.iter().zip(&widths).map(pad).collect();
            format!("│{}│\n", cells.join("│"))
        };
        let mut out = rule(['┌', '┬', '┐']);
        out += &line(&self.columns, true);
        out += &rule(['├', '┼', '┤']);
        for row in &self.rows {
            out += &line(row, false);
        }
        out + &rule(['└', '┴', '┘'])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_like_this() {
        let mut table = Table::new(&["endpoint", "id"]);
        table.row(vec!["a".to_owned(), "8e9e05c5".to_owned()]);
        let wanted = "┌──────────┬──────────┐\n│ ENDPOINT │    ID    │\n├──────────┼──────────┤\n\
                      │        a │ 8e9e05c5 │\n└──────────┴──────────┘\n";
        assert_eq!(table.render(), wanted);
    }
}
