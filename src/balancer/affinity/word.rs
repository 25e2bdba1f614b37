//! What an app says of the pin of its client, and of itself, in the head of a response.

/// The field it says it in: a comma-separated list (RFC 9110 §5.6.1).
pub const NAME: &str = "x-homing-affinity";

/// What a response says. Words are read in any case; those that nobody knows are ignored.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct AppWord {
    /// `drain`: this backend wants no new clients.
    pub drain: bool,
    /// `end`: the pin of this client ends.
    pub end: bool,
    /// `may-move`: nothing is lost when this client goes to another backend.
    pub may_move: bool,
    /// `start`: the pin of this client begins here, where pins begin later than with the first request.
    pub start: bool,
}

impl AppWord {
    /// Reads all lines of the field.
    pub fn read<'l>(lines: impl IntoIterator<Item = &'l [u8]>) -> Self {
        let mut said = Self::default();
        for word in lines.into_iter().flat_map(members) {
            match word {
                word if word.eq_ignore_ascii_case(b"drain") => said.drain = true,
                word if word.eq_ignore_ascii_case(b"end") => said.end = true,
                word if word.eq_ignore_ascii_case(b"may-move") => said.may_move = true,
                word if word.eq_ignore_ascii_case(b"start") => said.start = true,
                _ => {}
            }
        }
        said
    }
}

/// The members of one line; a comma between quotes separates nothing.
fn members(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let members = line.split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    });
    members.map(|member| member.trim_ascii())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `lines`: those of the field, a line each; `expected`: the words that were understood, in order.
    #[track_caller]
    fn check(lines: &str, expected: &str) {
        let said = AppWord::read(lines.lines().map(str::as_bytes));
        let all = [
            (said.drain, "drain"),
            (said.end, "end"),
            (said.may_move, "may-move"),
            (said.start, "start"),
        ];
        let words: Vec<&str> =
            all.into_iter().filter(|(on, _)| *on).map(|(_, word)| word).collect();
        assert_eq!(words.join(" "), expected, "{lines}");
    }

    #[test]
    fn each_word_is_understood_in_any_case() {
        check("drain", "drain");
        check("end", "end");
        check("may-move", "may-move");
        check("start", "start");
        check("May-Move", "may-move");
    }

    #[test]
    fn words_come_in_lists_and_on_several_lines() {
        check("start, may-move", "may-move start");
        check("start,may-move,\t drain ", "drain may-move start");
        check("end\ndrain", "drain end");
        check(",, end ,", "end");
        check("end, end", "end");
    }

    #[test]
    fn what_nobody_knows_is_ignored() {
        check("", "");
        check("off", "");
        check("end;when=later, start", "start");
        check("may move", "");
        check("the end", "");
        check("\"end\", drain", "drain");
        check("\"a, end, b\", drain", "drain");
    }

    proptest! {
        #[test]
        fn no_line_panics(line in prop::collection::vec(any::<u8>(), 0..100)) {
            AppWord::read([line.as_slice()]);
        }
    }
}
