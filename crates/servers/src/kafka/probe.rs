//! Whether a broker answers: the smallest request that there is (ApiVersions, version 0), by hand.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(5);
const CORRELATION: [u8; 4] = *b"hwtr";

/// Asks the broker on that port of 127.0.0.1.
pub(crate) fn answers(port: u16) -> bool {
    ask(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap_or(false)
}

fn ask(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(&request())?;
    // Length, correlation id, error code.
    let mut answer = [0; 10];
    stream.read_exact(&mut answer)?;
    Ok(answer[4..8] == CORRELATION && answer[8..] == [0, 0])
}

/// Length 10; key 18 (ApiVersions), version 0; correlation id; no client id.
fn request() -> [u8; 14] {
    let mut request = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    request[8..12].copy_from_slice(&CORRELATION);
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn only_an_answer_to_the_question_counts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = std::thread::spawn(move || {
            for answer in [&b"\0\0\0\x06hwtr\0\0"[..], b"HTTP/1.1 400", b"\0\0\0\x06hwtr\0\x23", b""] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0; 14];
                stream.read_exact(&mut asked).unwrap();
                stream.write_all(answer).unwrap();
            }
        });
        assert_eq!([answers(port), answers(port), answers(port), answers(port)], [true, false, false, false]);
        served.join().unwrap();
        assert!(!answers(port));
    }
}
