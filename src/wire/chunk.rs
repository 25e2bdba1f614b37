//! A body in chunks, read as it comes (RFC 9112 §7.1). What is handed on holds neither extensions nor trailers.

use super::fault::Fault;
use super::field;

/// Most digits of a size. Sixteen would not fit where lengths are signed.
const SIZE_DIGITS_MAX: usize = 15;

/// Most bytes of one extension. Hardly anybody sends any; a megabyte of them in tiny chunks is an attack.
const EXTENSION_MAX: usize = 256;

/// Most bytes of all trailers.
const TRAILERS_MAX: usize = 8192;

/// Reads the chunks of one body, however many pieces they come in.
#[derive(Debug, Default)]
pub struct ChunkReader {
    step: Step,
    size: u64,
    digits: usize,
    /// The extension or the trailer that is read at present.
    line: Vec<u8>,
    trailers: usize,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Step {
    /// The digits of a size.
    #[default]
    Size,
    /// What stands between a size and its CR.
    Extension,
    /// The LF after a size.
    SizeEnd,
    Data,
    /// The CR after data.
    DataCr,
    /// The LF after that.
    DataLf,
    /// A trailer, or the empty line at the end.
    Trailer,
    /// The LF of a trailer.
    TrailerEnd,
    Done,
}

/// What became of a piece.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Piece {
    /// How many bytes at its beginning are to be handed on, after [`ChunkReader::read`] moved them there.
    pub kept: usize,
    /// How many bytes of it belong to the body; the rest is another request.
    pub used: usize,
    /// Whether the body is complete.
    pub done: bool,
}

impl ChunkReader {
    /// Reads the next piece, and leaves at its beginning what is to be handed on.
    ///
    /// # Errors
    /// When it is not in chunks.
    pub fn read(&mut self, piece: &mut [u8]) -> Result<Piece, Fault> {
        let (mut kept, mut used) = (0, 0);
        while used < piece.len() && self.step != Step::Done {
            if self.step == Step::Data {
                let left = usize::try_from(self.size).unwrap_or(usize::MAX);
                let count = left.min(piece.len() - used);
                if kept != used {
                    piece.copy_within(used..used + count, kept);
                }
                (kept, used) = (kept + count, used + count);
                self.size -= count as u64;
                if self.size == 0 {
                    self.step = Step::DataCr;
                }
                continue;
            }
            let byte = piece[used];
            used += 1;
            if self.step(byte)? {
                piece[kept] = byte;
                kept += 1;
            }
        }
        Ok(Piece { kept, used, done: self.step == Step::Done })
    }

    /// Takes one byte that is no data. Answers whether it is handed on.
    fn step(&mut self, byte: u8) -> Result<bool, Fault> {
        match self.step {
            Step::Size => self.size(byte),
            Step::Extension => self.extension(byte),
            Step::SizeEnd if byte == b'\n' => {
                self.step = if self.size == 0 { Step::Trailer } else { Step::Data };
                self.digits = 0;
                Ok(true)
            }
            Step::SizeEnd => Err(Fault::ChunkSize),
            Step::DataCr if byte == b'\r' => self.go(Step::DataLf),
            Step::DataLf if byte == b'\n' => self.go(Step::Size),
            Step::DataCr | Step::DataLf => Err(Fault::ChunkEnd),
            Step::Trailer => self.trailer(byte),
            Step::TrailerEnd => self.trailer_end(byte),
            Step::Data | Step::Done => Ok(false),
        }
    }

    fn go(&mut self, step: Step) -> Result<bool, Fault> {
        self.step = step;
        Ok(true)
    }

    fn size(&mut self, byte: u8) -> Result<bool, Fault> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            self.digits += 1;
            self.size = self.size << 4 | u64::from(digit);
            return if self.digits > SIZE_DIGITS_MAX { Err(Fault::ChunkSize) } else { Ok(true) };
        }
        if self.digits == 0 {
            return Err(Fault::ChunkSize);
        }
        if byte == b'\r' {
            return self.go(Step::SizeEnd);
        }
        self.step = Step::Extension;
        self.extension(byte)
    }

    fn extension(&mut self, byte: u8) -> Result<bool, Fault> {
        if byte == b'\r' {
            let good = is_extension(&self.line);
            self.line.clear();
            return if good { self.go(Step::SizeEnd) } else { Err(Fault::ChunkExtension) };
        }
        if byte == b'\n' || self.line.len() >= EXTENSION_MAX {
            return Err(Fault::ChunkExtension);
        }
        self.line.push(byte);
        Ok(false)
    }

    fn trailer(&mut self, byte: u8) -> Result<bool, Fault> {
        if byte == b'\r' {
            // The empty line is the end, and is handed on.
            let is_last = self.line.is_empty();
            self.step = Step::TrailerEnd;
            return Ok(is_last);
        }
        self.trailers += 1;
        if byte == b'\n' || self.trailers > TRAILERS_MAX {
            return Err(Fault::Trailer);
        }
        self.line.push(byte);
        Ok(false)
    }

    fn trailer_end(&mut self, byte: u8) -> Result<bool, Fault> {
        if byte != b'\n' {
            return Err(Fault::Trailer);
        }
        if self.line.is_empty() {
            return self.go(Step::Done);
        }
        field::split(&self.line).map_err(|_| Fault::Trailer)?;
        self.line.clear();
        self.step = Step::Trailer;
        Ok(false)
    }
}

/// Whether `text` is `*( BWS ";" BWS name [ BWS "=" BWS value ] )` (RFC 9112 §7.1.1).
fn is_extension(text: &[u8]) -> bool {
    let mut rest = text.trim_ascii_start();
    while !rest.is_empty() {
        let Some(after) = rest.strip_prefix(b";") else { return false };
        let (name, after) = word(after.trim_ascii_start());
        if name.is_empty() {
            return false;
        }
        let trimmed = after.trim_ascii_start();
        rest = match trimmed.strip_prefix(b"=") {
            None => trimmed,
            Some(value) => match after_value(value.trim_ascii_start()) {
                Some(rest) => rest.trim_ascii_start(),
                None => return false,
            },
        };
    }
    // Spaces belong before a semicolon, not before the end.
    text.last().is_none_or(|byte| !byte.is_ascii_whitespace())
}

/// The token at the beginning, and what follows it.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !field::is_token(&[*byte])).unwrap_or(text.len());
    text.split_at(end)
}

/// What follows a token or a quoted string; `None`: it is neither.
fn after_value(text: &[u8]) -> Option<&[u8]> {
    let Some(mut rest) = text.strip_prefix(b"\"") else {
        let (token, rest) = word(text);
        return (!token.is_empty()).then_some(rest);
    };
    loop {
        let (byte, after) = rest.split_first()?;
        rest = match byte {
            b'"' => return Some(after),
            b'\\' => after.split_first().filter(|(byte, _)| is_text(**byte))?.1,
            byte if is_text(*byte) => after,
            _ => return None,
        };
    }
}

fn is_text(byte: u8) -> bool {
    (byte >= b' ' && byte != 0x7f) || byte == b'\t'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is handed on of `text` and what is left of it, when it comes in these pieces.
    fn read(text: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, Vec<u8>, bool), Fault> {
        let mut reader = ChunkReader::default();
        let (mut kept, mut left, mut at, mut done) = (Vec::new(), Vec::new(), 0, false);
        let mut ends: Vec<usize> = cuts.iter().copied().filter(|cut| *cut < text.len()).collect();
        ends.sort_unstable();
        ends.push(text.len());
        for end in ends {
            let mut piece = text[at..end].to_vec();
            let found = reader.read(&mut piece)?;
            kept.extend_from_slice(&piece[..found.kept]);
            left.extend_from_slice(&piece[found.used..]);
            (at, done) = (end, found.done);
        }
        Ok((kept, left, done))
    }

    #[track_caller]
    fn check(text: &str, kept: &str, left: &str) {
        let expected = Ok((kept.as_bytes().to_vec(), left.as_bytes().to_vec(), true));
        assert_eq!(read(text.as_bytes(), &[]), expected, "{text:?}");
        let each: Vec<usize> = (1..text.len()).collect();
        assert_eq!(read(text.as_bytes(), &each), expected, "{text:?}");
    }

    #[test]
    fn chunks_are_handed_on_without_extensions_and_trailers() {
        check("0\r\n\r\n", "0\r\n\r\n", "");
        check("5\r\nhello\r\n0\r\n\r\nGET /", "5\r\nhello\r\n0\r\n\r\n", "GET /");
        check(
            "A\r\n\r\n\r\n\r\n\r\n\r\n\r\n00\r\n\r\n",
            "A\r\n\r\n\r\n\r\n\r\n\r\n\r\n00\r\n\r\n",
            "",
        );
        check(
            "1;a\r\nx\r\n1 ; b = \"c\\\" d\"\r\ny\r\n0;z=1\r\n\r\n",
            "1\r\nx\r\n1\r\ny\r\n0\r\n\r\n",
            "",
        );
        check("0\r\nA: b\r\nContent-Length: 7\r\n\r\nX", "0\r\n\r\n", "X");
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        use Fault::{ChunkEnd, ChunkExtension, ChunkSize, Trailer};
        for (text, fault) in [
            ("x\r\n", ChunkSize),
            ("\r\n", ChunkSize),
            ("-1\r\n", ChunkSize),
            ("+1\r\n", ChunkSize),
            (" 1\r\n", ChunkSize),
            (";a\r\n", ChunkSize),
            ("0x1\r\n", ChunkExtension),
            ("1 \r\n", ChunkExtension),
            ("1g\r\n", ChunkExtension),
            ("1\n", ChunkExtension),
            ("1\rx", ChunkSize),
            ("1\r\r\n", ChunkSize),
            ("ffffffffffffffff\r\n", ChunkSize),
            ("0000000000000001\r\n", ChunkSize),
            ("1;\r\n", ChunkExtension),
            ("1;a=\r\n", ChunkExtension),
            ("1;a=\"b\r\n", ChunkExtension),
            ("1;a\nx", ChunkExtension),
            ("1;a=\"\x00\"\r\n", ChunkExtension),
            ("1,a\r\n", ChunkExtension),
            ("1\r\nab\r\n", ChunkEnd),
            ("1\r\na\n", ChunkEnd),
            ("1\r\na\rb", ChunkEnd),
            ("0\r\n\n", Trailer),
            ("0\r\nx\r\n", Trailer),
            ("0\r\n: y\r\n", Trailer),
            ("0\r\nx : y\r\n", Trailer),
            ("0\r\n x: y\r\n", Trailer),
            ("0\r\nx: y\n", Trailer),
            ("0\r\nx: y\r\n\rz", Trailer),
        ] {
            let each: Vec<usize> = (1..text.len()).collect();
            assert_eq!(read(text.as_bytes(), &[]), Err(fault), "{text:?}");
            assert_eq!(read(text.as_bytes(), &each), Err(fault), "{text:?}");
        }
        let long = format!("1;{}\r\n", "a".repeat(EXTENSION_MAX));
        assert_eq!(read(long.as_bytes(), &[]), Err(ChunkExtension));
        let long = format!("0\r\nx: {}\r\n\r\n", "a".repeat(TRAILERS_MAX));
        assert_eq!(read(long.as_bytes(), &[]), Err(Trailer));
    }

    proptest! {
        #[test]
        fn the_pieces_that_chunks_come_in_change_nothing(
            text in "[0-3a]{1,2}(;[a-z]{1,3})?\r\n[a-z]{0,3}\r\n(0\r\n(X: y\r\n)?\r\n)?[A-Z]{0,3}",
            cuts in prop::collection::vec(1_usize..40, 0..8),
        ) {
            prop_assert_eq!(read(text.as_bytes(), &cuts), read(text.as_bytes(), &[]));
        }

        #[test]
        fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok((kept, left, _)) = read(&bytes, &[]) {
                prop_assert!(kept.len() + left.len() <= bytes.len());
            }
        }
    }
}
