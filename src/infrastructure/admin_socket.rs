//! The socket in the data folder through which whoever runs the server gives it orders.
//!
//! A Unix socket is reachable from this machine alone, and there only by those whom the file's
//! rights let in: a port would need a password to be as safe.

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixListener;

/// How long a question waits for its answer, which needs no work.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How many bytes of a path an address of a socket holds for sure.
const MAX_PATH_BYTES: usize = 100;

/// How long the server may say nothing. It tells five times a second how far it is.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// Opens the socket for the server that holds the folder's lock. What a killed one left is removed.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = with_short(path, |path| UnixListener::bind(path))?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Sends an order and hands on each line of the answer's body, for as long as it takes.
pub fn order(path: &Path, target: &str, on_line: impl FnMut(&str)) -> io::Result<()> {
    let stream = with_short(path, |path| UnixStream::connect(path))?;
    stream.set_read_timeout(Some(SILENCE_LIMIT))?;
    exchange(stream, "POST", target, on_line)
}

/// A connection for an order that sends more than its name.
pub fn connect(path: &Path) -> io::Result<tokio::net::UnixStream> {
    let stream = with_short(path, |path| UnixStream::connect(path))?;
    stream.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(stream)
}

/// Asks something that is answered at once.
pub fn ask(path: &Path, target: &str) -> io::Result<String> {
    let stream = with_short(path, |path| UnixStream::connect(path))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let mut answer = String::new();
    exchange(stream, "GET", target, |line| answer.push_str(line))?;
    Ok(answer)
}

/// As little of HTTP as that takes: version 1.0, whose answers end with the connection.
fn exchange(mut stream: UnixStream, method: &str, target: &str, mut on_line: impl FnMut(&str)) -> io::Result<()> {
    write!(stream, "{method} {target} HTTP/1.0\r\nhost: admin\r\ncontent-length: 0\r\n\r\n")?;
    let mut lines = BufReader::new(stream).lines();
    let status = lines.next().transpose()?.unwrap_or_default();
    if !status.contains(" 200 ") {
        return Err(io::Error::other(format!("the server answered {status:?}")));
    }
    for line in lines.by_ref() {
        if line?.is_empty() {
            break;
        }
    }
    for line in lines {
        on_line(&line?);
    }
    Ok(())
}

/// Does something with a path that a socket's address has room for.
fn with_short<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() <= MAX_PATH_BYTES {
        return act(path);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return act(path) };
    let folder = File::open(folder)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    act(&short.join(name))
}
