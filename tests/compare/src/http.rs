//! As much of HTTP/1.1 as a load generator needs: finished requests go out as they are, of an answer
//! the status and the body come back. It costs a fraction of what a client library costs, and so
//! leaves the processors to the server that is measured.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// From this size on a request is written while its answer is read: a server may answer a long body
/// before it has read all of it, and neither side may wait for the other.
const LONG: usize = 16 << 10;

/// A whole request, as it goes out.
pub fn request(method: &str, path: &str, content_type: &str, body: &str) -> Vec<u8> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: compare\r\n").into_bytes();
    if !content_type.is_empty() {
        let head = format!("content-type: {content_type}\r\ncontent-length: {}\r\n", body.len());
        request.extend_from_slice(head.as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body.as_bytes());
    request
}

/// A connection, kept alive.
#[derive(Debug)]
pub struct Connection {
    writer: OwnedWriteHalf,
    reader: Reader,
}

impl Connection {
    pub async fn open(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        Ok(Self { writer, reader: Reader { half: reader, buffer: Vec::with_capacity(LONG), body: Vec::new() } })
    }

    /// Sends a request and reads the answer to its end.
    pub async fn ask(&mut self, request: &[u8]) -> Result<u16> {
        if request.len() >= LONG {
            let (written, status) = tokio::join!(self.writer.write_all(request), self.reader.answer());
            written.and(status)
        } else {
            self.writer.write_all(request).await?;
            self.reader.answer().await
        }
    }

    /// The body of the last answer.
    pub fn body(&self) -> &[u8] {
        &self.reader.body
    }
}

/// What stands between an answer's head and its body.
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// The head of an answer.
struct Head {
    status: u16,
    length: Length,
}

enum Length {
    Bytes(usize),
    Chunks,
}

impl Head {
    fn read(head: &[u8]) -> Result<Self> {
        let wrong = |what: &str| Error::new(ErrorKind::InvalidData, format!("the answer has {what}"));
        let text = std::str::from_utf8(head).map_err(|_| wrong("a head that is no text"))?;
        let status = text.get(9..12).and_then(|digits| digits.parse().ok()).ok_or_else(|| wrong("no status"))?;
        let value = |name: &str| {
            text.lines().find_map(|line| {
                let (header, value) = line.split_once(':')?;
                header.eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        let length = value("content-length").and_then(|digits| digits.parse().ok()).map(Length::Bytes);
        let chunked = || value("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        let length = length.or_else(|| chunked().then_some(Length::Chunks)).ok_or_else(|| wrong("no length"))?;
        Ok(Self { status, length })
    }
}

/// The status and the body of an answer that says its length, once all of it is there.
pub fn whole_answer(bytes: &[u8]) -> Result<Option<(u16, &[u8])>> {
    let Some(end) = bytes.windows(END_OF_HEAD.len()).position(|window| window == END_OF_HEAD) else {
        return Ok(None);
    };
    let Head { status, length } = Head::read(&bytes[..end])?;
    let Length::Bytes(length) = length else {
        return Err(Error::new(ErrorKind::InvalidData, "an answer in chunks, where one with a length was expected"));
    };
    let body = &bytes[end + END_OF_HEAD.len()..];
    if body.len() > length {
        return Err(Error::new(ErrorKind::InvalidData, "the answer is longer than it says"));
    }
    Ok((body.len() == length).then_some((status, body)))
}

#[derive(Debug)]
struct Reader {
    half: OwnedReadHalf,
    /// What was read and not yet used.
    buffer: Vec<u8>,
    body: Vec<u8>,
}

impl Reader {
    async fn answer(&mut self) -> Result<u16> {
        let end = self.find(END_OF_HEAD).await?;
        let head = Head::read(&self.buffer[..end])?;
        self.buffer.drain(..end + END_OF_HEAD.len());
        self.body.clear();
        match head.length {
            Length::Bytes(length) => self.take(length).await?,
            Length::Chunks => while self.chunk().await? {},
        }
        Ok(head.status)
    }

    /// Moves one chunk to the body; false after the last one.
    async fn chunk(&mut self) -> Result<bool> {
        let line = self.find(b"\r\n").await?;
        let size = std::str::from_utf8(&self.buffer[..line]).ok();
        let size = size.and_then(|text| usize::from_str_radix(text.split(';').next()?.trim(), 16).ok());
        let size = size.ok_or_else(|| Error::new(ErrorKind::InvalidData, "a chunk has no size"))?;
        self.buffer.drain(..line + 2);
        self.take(size).await?;
        let end = self.find(b"\r\n").await?;
        self.buffer.drain(..end + 2);
        Ok(size > 0)
    }

    /// Reads until the buffer has these bytes, and says where.
    async fn find(&mut self, bytes: &[u8]) -> Result<usize> {
        loop {
            if let Some(place) = self.buffer.windows(bytes.len()).position(|window| window == bytes) {
                return Ok(place);
            }
            self.read_more().await?;
        }
    }

    /// Moves so many bytes to the end of the body.
    async fn take(&mut self, length: usize) -> Result<()> {
        let end = self.body.len() + length;
        let buffered = length.min(self.buffer.len());
        self.body.extend(self.buffer.drain(..buffered));
        while self.body.len() < end {
            let missing = u64::try_from(end - self.body.len()).unwrap_or(u64::MAX);
            if (&mut self.half).take(missing).read_buf(&mut self.body).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    async fn read_more(&mut self) -> Result<()> {
        match self.half.read_buf(&mut self.buffer).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Answers a request with these bytes, so many at a time.
    async fn answered_with(bytes: &'static str, piece: usize) -> (Result<u16>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a port");
        let addr = listener.local_addr().expect("it has an address");
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            for piece in bytes.as_bytes().chunks(piece) {
                stream.write_all(piece).await?;
                tokio::task::yield_now().await;
            }
            stream.shutdown().await
        });
        let mut connection = Connection::open(addr).await.expect("somebody listens");
        let status = connection.ask(&request("GET", "/", "", "")).await;
        let _ = serving.await;
        (status, String::from_utf8_lossy(connection.body()).into_owned())
    }

    #[tokio::test]
    async fn an_answer_is_read_to_its_end_however_it_comes() {
        let whole = "HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\n\r\nhello";
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
        for piece in [1, 7, 1_000] {
            for (bytes, expected) in [(whole, 202), (chunked, 200)] {
                let (status, body) = answered_with(bytes, piece).await;
                assert_eq!((status.ok(), body.as_str()), (Some(expected), "hello"), "{piece} bytes at a time");
            }
        }
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_an_error() {
        for bytes in [
            "HTTP/1.1 202 Acc",
            "HTTP/1.1 202 Accepted\r\ncontent-length: 5\r\n\r\nhel",
            "HTTP/1.1 202 Accepted\r\n\r\n",
        ] {
            let (status, _) = answered_with(bytes, 1_000).await;
            assert!(status.is_err(), "{bytes}");
        }
    }

    #[test]
    fn an_answer_is_whole_when_all_that_it_says_is_there() {
        let answer = b"HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\n\r\nhello";
        for there in 0..answer.len() {
            assert_eq!(whole_answer(&answer[..there]).ok(), Some(None), "{there} bytes");
        }
        assert_eq!(whole_answer(answer).ok(), Some(Some((202, b"hello".as_slice()))));
        for wrong in [
            "HTTP/1.1 202 Accepted\r\ncontent-length: 1\r\n\r\nhello",
            "HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 202 Accepted\r\n\r\n",
            "HTTP/1.1 many\r\ncontent-length: 0\r\n\r\n",
        ] {
            assert!(whole_answer(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
