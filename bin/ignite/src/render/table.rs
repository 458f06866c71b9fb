//! Tables: a header, columns of equal width, no lines.

use crate::render::text::sanitize;
use comfy_table::{Table, presets};

/// The table as text, each line without trailing space; every cell is made harmless for a terminal.
pub fn render<const N: usize>(header: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row.map(|cell| sanitize(&cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_cells_are_harmless() {
        let rows = vec![["a".to_owned(), "\u{1b}[31m".to_owned()], ["longer".to_owned(), "漢字".to_owned()]];
        let expected = "NAME     VALUE\na        \\u{1b}[31m\nlonger   漢字\n";
        assert_eq!(render(["NAME", "VALUE"], rows), expected);
        assert_eq!(render(["ONE", "TWO"], Vec::new()), "ONE   TWO\n");
    }
}
