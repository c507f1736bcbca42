//! Text that lines up: tables, paragraphs and durations, counted in terminal columns rather than bytes.

use std::time::Duration;

use unicode_width::UnicodeWidthStr;

/// Spaces between two columns of a table.
const GAP: usize = 2;

/// How many terminal columns a text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// A text filled up with spaces to `columns`; longer ones stay as they are.
pub fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// `left`, and `right` at the right edge of `columns`; at least two spaces between them.
pub fn justify(left: &str, right: &str, columns: usize) -> String {
    let gap = columns.saturating_sub(width(left) + width(right)).max(2);
    format!("{left}{}{right}", " ".repeat(gap))
}

/// Lines up rows of cells, one line each, without trailing spaces. Rows may differ in length.
pub fn table<R, C>(rows: &[R]) -> String
where
    R: AsRef<[C]>,
    C: AsRef<str>,
{
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (i, cell) in row.as_ref().iter().enumerate() {
            let cell_width = width(cell.as_ref());
            match widths.get_mut(i) {
                Some(known) => *known = (*known).max(cell_width),
                None => widths.push(cell_width),
            }
        }
    }
    rows.iter().map(|row| table_line(row.as_ref(), &widths)).collect()
}

fn table_line<C: AsRef<str>>(row: &[C], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, columns) in row.iter().zip(widths) {
        line.push_str(&pad(cell.as_ref(), columns + GAP));
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

/// Every line of a text moved right by `by` columns.
pub fn indent(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect()
}

/// "0.3 s", "41.6 s", "2 min 5 s", "1 h 3 min".
pub fn elapsed(time: Duration) -> String {
    // What rounds to 60.0 s is a minute.
    let tenths = (time.as_millis() + 50) / 100;
    let seconds = (time.as_millis() + 500) / 1000;
    match seconds {
        _ if tenths < 600 => format!("{}.{} s", tenths / 10, tenths % 10),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Replaces what would steer a terminal (escape sequences, carriage returns, bells) by its visible form, keeping
/// line breaks and tabs: texts from hosts are shown, never obeyed.
pub fn harmless(text: &str) -> String {
    let is_safe = |c: char| !c.is_control() || c == '\n' || c == '\t';
    if text.chars().all(is_safe) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        match is_safe(c) {
            true => shown.push(c),
            false => shown.extend(c.escape_default()),
        }
        shown
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_the_script() {
        let rows =
            [["MEMBER", "ROLE", "NOTES"], ["m1", "leader", ""], ["räk", "–", "full"], ["節点", "voter", "x"]];
        insta::assert_snapshot!(table(&rows), @r"
        MEMBER  ROLE    NOTES
        m1      leader
        räk     –       full
        節点    voter   x
        ");
    }

    #[test]
    fn rows_may_be_short_or_absent() {
        assert_eq!(table(&[vec!["a", "b"], vec!["long"], vec![]]), "a     b\nlong\n\n");
        assert_eq!(table::<[&str; 0], &str>(&[]), "");
    }

    #[test]
    fn durations_read_as_people_say_them() {
        for (millis, text) in [
            (0, "0.0 s"),
            (49, "0.0 s"),
            (50, "0.1 s"),
            (41_649, "41.6 s"),
            (59_949, "59.9 s"),
            (59_950, "1 min 0 s"),
            (125_400, "2 min 5 s"),
            (3_599_400, "59 min 59 s"),
            (3_599_500, "1 h 0 min"),
            (3_780_000, "1 h 3 min"),
        ] {
            assert_eq!(elapsed(Duration::from_millis(millis)), text, "{millis} ms");
        }
    }

    #[test]
    fn the_right_edge_gives_way_to_long_text() {
        assert_eq!(justify("ab", "1 s", 10), "ab     1 s");
        assert_eq!(justify("abcdefgh", "1 s", 10), "abcdefgh  1 s");
    }

    #[test]
    fn hosts_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\x1b[2J\rb\tc\nd"), r"a\u{1b}[2J\rb".to_owned() + "\tc\nd");
        assert_eq!(harmless("räksmörgås – 節点"), "räksmörgås – 節点");
    }
}
