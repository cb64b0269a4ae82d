//! What import must know of InfluxDB line protocol: where a line ends and how many fields it has.
//!
//! Owns: that and no more. Does not know: whether a line is any good; the server does.

/// Where in a line the text is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Before the measurement.
    #[default]
    Start,
    Comment,
    /// Measurement and tags.
    Key,
    /// Between the parts.
    Gap,
    /// A field's name.
    Name,
    /// Right after `=`.
    ValueStart,
    /// A number or boolean.
    Value,
    String,
    /// After the fields.
    Time,
}

/// Follows a line, or several where a string holds line ends.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    part: Part,
    escaped: bool,
    fields: Fields,
}

/// The fields of lines.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fields {
    /// All of them.
    pub(super) all: u64,
    /// Those that are strings, which the server skips.
    pub(super) strings: u64,
}

impl Fields {
    pub(super) const fn add(&mut self, other: Self) {
        self.all += other.all;
        self.strings += other.strings;
    }
}

/// The fields of a whole row.
pub(super) fn fields(row: &[u8]) -> Fields {
    let mut scanner = Scanner::default();
    scanner.add(row);
    scanner.fields
}

/// Whether a row is empty or a comment.
pub(super) fn is_empty(row: &[u8]) -> bool {
    matches!(row.trim_ascii(), [] | [b'#', ..])
}

impl Scanner {
    pub(super) fn add(&mut self, text: &[u8]) {
        text.iter().for_each(|byte| self.step(*byte));
    }

    /// Whether the text so far ends within a quoted string.
    pub(super) fn in_string(&self) -> bool {
        self.part == Part::String
    }

    fn step(&mut self, byte: u8) {
        if std::mem::take(&mut self.escaped) {
            return;
        }
        if byte == b'\\' {
            self.escaped = true;
        }
        self.part = match (self.part, byte) {
            (Part::Start, b' ' | b'\r' | b'\n') => Part::Start,
            (Part::Start, b'#') => Part::Comment,
            (Part::Start, _) => Part::Key,
            (Part::Key | Part::Gap, b' ') => Part::Gap,
            (Part::Gap | Part::Name, b'=') => Part::ValueStart,
            (Part::Gap, _) => Part::Name,
            (Part::ValueStart, b'"') => {
                self.fields.add(Fields { all: 1, strings: 1 });
                Part::String
            }
            (Part::ValueStart, _) => {
                self.fields.add(Fields { all: 1, strings: 0 });
                Part::Value
            }
            (Part::String, b'"') => Part::Value,
            (Part::Value, b',') => Part::Name,
            (Part::Value, b' ') => Part::Time,
            (part, _) => part,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_as_the_server_sees_them() {
        let of = |row: &str| {
            let Fields { all, strings } = fields(row.as_bytes());
            (all, strings)
        };
        assert_eq!(of("cpu,host=a value=1 1700000000\n"), (1, 0));
        assert_eq!(of("cpu,host=a\\ b usage=1,idle=2i,note=\"a=b, c=d\" 17\n"), (3, 1));
        assert_eq!(of("m v=\"say \\\"x=1,y=2\\\"\",w=t"), (2, 1));
        assert_eq!(of("# v=1,w=2\n"), (0, 0));
        assert_eq!(of("\n"), (0, 0));
    }

    #[test]
    fn a_line_ends_outside_of_strings() {
        let open = |text: &str| {
            let mut scanner = Scanner::default();
            scanner.add(text.as_bytes());
            scanner.in_string()
        };
        assert!(open("m v=\"first\n"));
        assert!(!open("m v=\"first\nsecond\" 1\n"));
        assert!(open("m v=\"a\\\"\n"));
        assert!(!open("m\"easure,t=\"x v=1\n"), "quotation marks outside of fields are letters");
    }
}
