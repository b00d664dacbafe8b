//! What was read of `Accept-Encoding` lately: nearly all requests say one of a few things.

use std::cell::RefCell;

use super::AcceptEncoding;

/// Of how many lines a thread remembers what they say.
const LINES: usize = 4;

/// The longest line that is remembered.
const MAX_LEN: usize = 48;

#[derive(Clone, Copy)]
struct Read {
    line: [u8; MAX_LEN],
    /// None of a place that is free.
    len: Option<usize>,
    says: AcceptEncoding,
}

struct Memo {
    lines: [Read; LINES],
    /// Which one is forgotten next.
    next: usize,
}

thread_local! {
    static MEMO: RefCell<Memo> = const {
        let free = Read { line: [0; MAX_LEN], len: None, says: AcceptEncoding::NOTHING };
        RefCell::new(Memo { lines: [free; LINES], next: 0 })
    };
}

/// What a field of one line says.
pub(super) fn read(line: &[u8]) -> AcceptEncoding {
    if line.len() > MAX_LEN {
        return AcceptEncoding::parse([line]);
    }
    MEMO.with_borrow_mut(|memo| {
        let is_this = |read: &&Read| read.len == Some(line.len()) && read.line.starts_with(line);
        match memo.lines.iter().find(is_this) {
            Some(read) => read.says,
            None => memo.add(line),
        }
    })
}

impl Memo {
    #[cold]
    fn add(&mut self, line: &[u8]) -> AcceptEncoding {
        let says = AcceptEncoding::parse([line]);
        let mut kept = [0; MAX_LEN];
        if let (Some(free), Some(start)) =
            (self.lines.get_mut(self.next % LINES), kept.get_mut(..line.len()))
        {
            start.copy_from_slice(line);
            *free = Read { line: kept, len: Some(line.len()), says };
        }
        self.next = self.next.wrapping_add(1);
        says
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_what_was_said() {
        let lines = ["gzip", "gzip, br", "br", "", "zstd;q=0.5", "gzip, deflate, br, zstd", "*"];
        let long = "gzip;q=0.5, ".repeat(10);
        for _ in 0..3 {
            for line in lines.into_iter().chain([&*long]) {
                for _ in 0..2 {
                    let parsed = AcceptEncoding::parse([line.as_bytes()]);
                    assert_eq!(read(line.as_bytes()), parsed, "{line}");
                }
            }
        }
    }
}
