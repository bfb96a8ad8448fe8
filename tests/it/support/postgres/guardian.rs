//! The process that starts PostgreSQL, outlives the tests, and clears up after them: however a test
//! run ends, the system closes its end of the guardian's input, and that is what it waits for.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use crate::support::PATIENCE;
use crate::support::postgres::programs::{Programs, Somebody};

/// It takes commands and answers each with a line. PostgreSQL is its child, so nothing can come
/// between a start and the knowledge of what was started.
const SCRIPT: &str = r#"
folder=$1 programs=$2
shift 2
exec 2>>"$folder/guardian.log"
set -f
trap '' PIPE # An answer that nobody reads must not end it before it has cleared up.
pid=

running() { [ -n "$pid" ] && kill -0 "$pid"; }
ready() {
    { read -r first && [ "$first" = "$pid" ] && grep -Eq '^(ready|standby)'; } <"$folder/data/postmaster.pid"
}

if "$programs/initdb" -D "$folder/data" "$@" >"$folder/initdb.log" 2>&1 </dev/null
then echo made
else echo failed
fi
while read -r command port options; do
    case $command in
    start)
        "$programs/postgres" -D "$folder/data" -p "$port" -k "$folder" $options >>"$folder/server.log" 2>&1 </dev/null &
        pid=$!
        # The shell learns of an end while it waits for another command.
        while running && ! ready; do sleep 0.02; done
        if running; then echo "$pid"; else echo failed; fi
        ;;
    running)
        sleep 0.02
        if running; then echo yes; else echo no; fi
        ;;
    esac
done

if running; then
    kill -QUIT "$pid"
    kill -CONT "$pid" # A test may have halted it.
    wait "$pid"
fi
# One that was killed left the segment of memory that told others of it, in line 7 of its file.
segment=$(sed -n '7s/.* //p' "$folder/data/postmaster.pid" 2>/dev/null)
[ -n "$segment" ] && ipcrm -m "$segment"
# The children of one that was killed may still be writing.
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf "$folder" && exit
    sleep 0.2
done
"#;

pub struct Guardian {
    folder: PathBuf,
    child: Child,
    /// Its end is the order to clear up.
    commands: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Guardian {
    /// Starts it and makes the server's files. The folder is its own from then on.
    pub fn start(folder: &Path, programs: &Programs, somebody: Option<Somebody>, initdb: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "guardian"]).args([folder, &programs.folder]);
        command.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]).args(initdb);
        if let Some(Somebody { user, group }) = somebody {
            command.uid(user).gid(group);
        }
        // A process group of its own: what ends the tests at a terminal does not end it.
        command.current_dir("/").process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("there is a shell");
        let (answered, answers) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| answered.send(line)));
        let commands = child.stdin.take();
        let guardian = Self { folder: folder.to_owned(), child, commands, answers };
        assert!(guardian.answer() == "made", "initdb failed: {}", guardian.written());
        guardian
    }

    /// Gives a command and waits for its answer.
    pub fn ask(&mut self, command: &str) -> String {
        writeln!(self.commands.as_mut().unwrap(), "{command}").unwrap();
        self.answer()
    }

    fn answer(&self) -> String {
        self.answers.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no answer; {}", self.written()))
    }

    /// What its processes wrote, for the message of a failed test.
    pub fn written(&self) -> String {
        let names = ["guardian.log", "initdb.log", "server.log"];
        names.map(|name| fs::read_to_string(self.folder.join(name)).unwrap_or_default()).concat()
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.commands.take());
        let begin = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begin.elapsed() > PATIENCE {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
