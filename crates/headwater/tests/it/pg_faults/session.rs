//! A conversation with PostgreSQL: one connection that holds what a test wants held, for as long as it wants.
//!
//! Owns: as much of the protocol as a superuser needs who is trusted. Does not know: what is asked.
//! Invariant: a connection costs a test nothing but a socket, so that it can have as many as the server has.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Version 3.0 of the protocol.
const VERSION: i32 = 196_608;
/// Beyond what anything that is asked here takes.
const ANSWER: Duration = Duration::from_secs(60);

/// A connection.
pub(crate) struct Session(TcpStream);

/// What the server says: its kind and its bytes.
type Message = (u8, Vec<u8>);

impl Session {
    /// Connects as the superuser; `Err` holds what the server says instead.
    pub(super) fn open(port: u16, database: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|why| why.to_string())?;
        stream.set_read_timeout(Some(ANSWER)).unwrap();
        let mut session = Self(stream);
        let words = format!("user\0postgres\0database\0{database}\0\0");
        let mut bytes = (words.len() as i32 + 8).to_be_bytes().to_vec();
        bytes.extend(VERSION.to_be_bytes());
        bytes.extend(words.as_bytes());
        session.0.write_all(&bytes).map_err(|why| why.to_string())?;
        session.answer().map(|_| session)
    }

    /// Runs SQL; gives its rows, a line each and the columns with a bar between them.
    pub(crate) fn run(&mut self, sql: &str) -> String {
        self.try_run(sql).unwrap_or_else(|why| panic!("{sql}: {why}"))
    }

    /// Runs SQL; `Err` holds what the server says, or that it is gone.
    pub(super) fn try_run(&mut self, sql: &str) -> Result<String, String> {
        let mut bytes = vec![b'Q'];
        bytes.extend((sql.len() as i32 + 5).to_be_bytes());
        bytes.extend(sql.as_bytes());
        bytes.push(0);
        self.0.write_all(&bytes).map_err(|why| why.to_string())?;
        self.answer()
    }

    /// Reads until the server waits for the next statement.
    fn answer(&mut self) -> Result<String, String> {
        let (mut rows, mut refused) = (Vec::new(), None);
        loop {
            match self.message().map_err(|why| refused.take().unwrap_or_else(|| why.to_string()))? {
                (b'Z', _) => return refused.map_or(Ok(rows.join("\n")), Err),
                (b'D', bytes) => rows.push(columns(&bytes)),
                (b'E', bytes) => refused = Some(String::from_utf8_lossy(&bytes).replace('\0', " ")),
                _ => {}
            }
        }
    }

    fn message(&mut self) -> std::io::Result<Message> {
        let mut head = [0; 5];
        self.0.read_exact(&mut head)?;
        let length = i32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
        let mut bytes = vec![0; length - 4];
        self.0.read_exact(&mut bytes)?;
        Ok((head[0], bytes))
    }
}

/// The columns of a row; NULL is empty.
fn columns(mut bytes: &[u8]) -> String {
    let mut take = |n: usize| {
        let (taken, rest) = bytes.split_at(n);
        bytes = rest;
        taken.to_vec()
    };
    let n = i16::from_be_bytes(take(2).try_into().unwrap());
    let column = |_| {
        let length = i32::from_be_bytes(take(4).try_into().unwrap());
        String::from_utf8_lossy(&take(usize::try_from(length).unwrap_or(0))).into_owned()
    };
    (0..n).map(column).collect::<Vec<_>>().join("|")
}
