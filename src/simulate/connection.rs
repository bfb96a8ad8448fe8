//! One HTTP/1.1 connection, as lean as it can be: whoever makes the load shares the machine with
//! the server, and what the client burns the server does not get.
//!
//! A request is one buffer and one write. The answer is read while the request is still being
//! written, as a server may answer the first lines of a long body before it has read the last.
//! There is no task and no queue in between. What an answer may be made of (lengths, chunks,
//! interim answers, an end by closing) is all of RFC 9112 that servers use towards clients.

use std::io::{Error, ErrorKind, Result};
use std::pin::pin;
use std::time::Duration;

use httparse::{EMPTY_HEADER, Header, Status, parse_chunk_size};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::simulate::target::Target;

const MAX_HEADERS: usize = 64;
const MAX_HEAD_BYTES: usize = 64 << 10;
const MAX_BODY_BYTES: usize = 1 << 30;

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// What was read and belongs to nothing yet.
    read: Vec<u8>,
}

/// An answer, read to its end.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
    /// Whether the connection can be used again.
    pub is_last: bool,
}

/// How the end of a body is found.
enum Framing {
    Length(usize),
    Chunks,
    Close,
}

impl Connection {
    pub async fn open(target: &Target) -> Result<Self> {
        let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::with_capacity(4 << 10) })
    }

    /// Sends a whole request and reads its answer. After an error the connection is of no more use.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Answer> {
        let (mut reader, mut writer): (ReadHalf<'_>, WriteHalf<'_>) = self.stream.split();
        let mut writing = pin!(writer.write_all(request));
        let mut reading = pin!(read_answer(&mut reader, &mut self.read));
        let mut written = None;
        loop {
            tokio::select! {
                biased;
                result = &mut writing, if written.is_none() => written = Some(result.is_ok()),
                answer = &mut reading => {
                    let mut answer = answer?;
                    // The answer came before the request was out: what is left of it must not follow.
                    answer.is_last |= written != Some(true);
                    return Ok(answer);
                }
            }
        }
    }
}

async fn read_answer(reader: &mut ReadHalf<'_>, read: &mut Vec<u8>) -> Result<Answer> {
    let (mut answer, framing) = loop {
        if let Some((answer, framing, length)) = parse_head(read)? {
            read.drain(..length);
            // An interim answer is followed by the real one.
            if answer.status >= 200 {
                break (answer, framing);
            }
        } else if read.len() > MAX_HEAD_BYTES {
            return Err(Error::new(ErrorKind::InvalidData, "the head of the answer has no end"));
        } else {
            fill(reader, read).await?;
        }
    };
    match framing {
        Framing::Length(length) => {
            while read.len() < length {
                fill(reader, read).await?;
            }
            answer.body = read.drain(..length).collect();
        }
        Framing::Chunks => read_chunks(reader, read, &mut answer.body).await?,
        Framing::Close => loop {
            match fill(reader, read).await {
                Ok(()) if read.len() <= MAX_BODY_BYTES => {}
                Ok(()) => return Err(too_large()),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    answer.body = std::mem::take(read);
                    break;
                }
                Err(error) => return Err(error),
            }
        },
    }
    Ok(answer)
}

/// The answer without its body, how that ends, and the length of the head; `None` for a part of one.
fn parse_head(read: &[u8]) -> Result<Option<(Answer, Framing, usize)>> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let invalid =
        |reason: &dyn ToString| Error::new(ErrorKind::InvalidData, format!("no HTTP: {}", reason.to_string()));
    let length = match head.parse(read) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(error) => return Err(invalid(&error)),
    };
    let status = head.code.unwrap_or_default();
    let mut answer = Answer { status, is_last: head.version != Some(1), ..Answer::default() };
    let mut framing = if status < 200 || matches!(status, 204 | 304) { Framing::Length(0) } else { Framing::Close };
    for Header { name, value } in head.headers {
        let value = std::str::from_utf8(value).unwrap_or_default().trim();
        if name.eq_ignore_ascii_case("content-length") {
            let length = value.parse().map_err(|_| invalid(&"the content-length is no number"))?;
            if length > MAX_BODY_BYTES {
                return Err(too_large());
            }
            if !matches!(framing, Framing::Chunks) {
                framing = Framing::Length(length);
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            framing = Framing::Chunks;
        } else if name.eq_ignore_ascii_case("connection") {
            answer.is_last |= value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("retry-after") {
            answer.retry_after = value.parse().map(Duration::from_secs).ok();
        }
    }
    answer.is_last |= matches!(framing, Framing::Close);
    Ok(Some((answer, framing, length)))
}

async fn read_chunks(reader: &mut ReadHalf<'_>, read: &mut Vec<u8>, body: &mut Vec<u8>) -> Result<()> {
    let invalid = || Error::new(ErrorKind::InvalidData, "the chunks of the answer are broken");
    loop {
        let (start, length) = loop {
            match parse_chunk_size(read).map_err(|_| invalid())? {
                Status::Complete((start, length)) => break (start, length),
                Status::Partial => fill(reader, read).await?,
            }
        };
        let length = usize::try_from(length).ok().filter(|length| *length <= MAX_BODY_BYTES - body.len());
        let length = length.ok_or_else(too_large)?;
        if length == 0 {
            read.drain(..start);
            return skip_trailers(reader, read).await;
        }
        let end = start + length;
        while read.len() < end + 2 {
            fill(reader, read).await?;
        }
        body.extend_from_slice(&read[start..end]);
        if &read[end..end + 2] != b"\r\n" {
            return Err(invalid());
        }
        read.drain(..end + 2);
    }
}

/// Reads up to the empty line that ends an answer in chunks.
async fn skip_trailers(reader: &mut ReadHalf<'_>, read: &mut Vec<u8>) -> Result<()> {
    loop {
        match read.windows(2).position(|bytes| bytes == b"\r\n") {
            Some(end) => {
                read.drain(..end + 2);
                if end == 0 {
                    return Ok(());
                }
            }
            None if read.len() > MAX_HEAD_BYTES => return Err(too_large()),
            None => fill(reader, read).await?,
        }
    }
}

async fn fill(reader: &mut ReadHalf<'_>, read: &mut Vec<u8>) -> Result<()> {
    match reader.read_buf(read).await? {
        0 => Err(Error::new(ErrorKind::UnexpectedEof, "the server closed the connection")),
        _ => Ok(()),
    }
}

fn too_large() -> Error {
    Error::new(ErrorKind::InvalidData, "the answer is too large")
}

#[cfg(test)]
mod tests;
