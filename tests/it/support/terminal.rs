//! A pseudo terminal, for what a command shows only to somebody who watches.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// Who watches.
pub struct Terminal {
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// A terminal of 200 columns, and the end that a process is given.
    pub fn open() -> (Self, Stdio) {
        let watched = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&watched).unwrap();
        unlockpt(&watched).unwrap();
        let name = ptsname(&watched, Vec::new()).unwrap();
        let end = File::options().read(true).write(true).open(OsStr::from_bytes(name.to_bytes())).unwrap();
        tcsetwinsize(&end, Winsize { ws_row: 50, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let kept = Arc::clone(&shown);
        std::thread::spawn(move || {
            let (mut watched, mut piece) = (File::from(watched), [0; 4096]);
            // An error once nobody has the other end any more.
            while let Ok(length @ 1..) = watched.read(&mut piece) {
                kept.lock().unwrap().extend_from_slice(&piece[..length]);
            }
        });
        (Self { shown }, end.into())
    }

    /// Everything that was written to it so far.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// The lines that somebody could see one after the other, without what moves the cursor about.
    pub fn lines(&self) -> Vec<String> {
        let shown = self.shown();
        let mut parts = shown.split("\x1b[");
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            // Numbers, and the letter that says what they are for.
            text.extend(part.chars().skip_while(|character| !character.is_ascii_alphabetic()).skip(1));
        }
        text.split(['\r', '\n']).filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
    }
}
