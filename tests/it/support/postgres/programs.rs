//! Where PostgreSQL's programs are, as whom they can run, and where their files may lie.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The variable that names the folder of the programs.
pub const VARIABLE: &str = "LOCKSTREAM_PG_BIN";

/// The folder of `initdb` and `postgres`.
#[derive(Debug, PartialEq, Eq)]
pub struct Programs {
    pub folder: PathBuf,
}

impl Programs {
    /// Looks where [`VARIABLE`] says; without it where Debian puts them, then in `PATH`.
    pub fn find() -> Result<Self, String> {
        let [named, path] = [VARIABLE, "PATH"].map(std::env::var_os);
        Self::find_in(named.as_deref(), "/usr/lib/postgresql".as_ref(), path.as_deref().unwrap_or_default())
    }

    /// The same with everything given; the error is one sentence for a person.
    pub fn find_in(named: Option<&OsStr>, debian: &Path, path: &OsStr) -> Result<Self, String> {
        let complete = |folder: &PathBuf| ["initdb", "postgres"].iter().all(|name| folder.join(name).is_file());
        if let Some(folder) = named.map(PathBuf::from) {
            if complete(&folder) {
                return Ok(Self { folder });
            }
            return Err(format!("{VARIABLE} names {}, where there is no initdb and postgres", folder.display()));
        }
        let folder = versions(debian).into_iter().chain(std::env::split_paths(path)).find(complete);
        folder.map(|folder| Self { folder }).ok_or_else(|| {
            format!(
                "the tests need PostgreSQL's programs initdb and postgres: `apt-get install postgresql` installs them \
                 (tests/run.sh does that by itself), or {VARIABLE} names their folder"
            )
        })
    }
}

/// The folders of the programs of each installed version, the newest first.
fn versions(debian: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(debian).into_iter().flatten().map(|entry| entry.unwrap());
    let number = |name: &OsStr| name.to_str()?.parse::<u32>().ok();
    let mut found: Vec<_> = folders.filter_map(|folder| Some((number(&folder.file_name())?, folder.path()))).collect();
    found.sort();
    found.into_iter().rev().map(|(_, folder)| folder.join("bin")).collect()
}

/// A user of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Somebody {
    pub user: u32,
    pub group: u32,
}

impl Somebody {
    /// Whom the programs have to run as; `None` when they can run as whoever runs the tests. They
    /// refuse to run as root.
    pub fn needed() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let users = fs::read_to_string("/etc/passwd").expect("the system has users");
        let found = ["postgres", "nobody"].into_iter().find_map(|name| Self::named(name, &users));
        Some(found.expect("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody"))
    }

    fn named(name: &str, users: &str) -> Option<Self> {
        let line = users.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let mut ids = line.split(':').skip(1).map(str::parse);
        Some(Self { user: ids.next()?.ok()?, group: ids.next()?.ok()? })
    }
}

/// Where a server's folder can lie: short enough for a socket's path, plain enough for a URL, and
/// within reach of whom it runs as.
pub fn place(somebody: Option<Somebody>) -> PathBuf {
    let plain = |path: &Path| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
        path.is_absolute() && path.to_str().is_some_and(|path| path.len() < 50 && path.bytes().all(is_plain))
    };
    let open = |path: &Path| fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o001 != 0);
    let within_reach = |path: &Path| path.is_dir() && (somebody.is_none() || path.ancestors().all(open));
    let mut places = [std::env::temp_dir(), "/tmp".into(), "/var/tmp".into()].into_iter();
    places.find(|path| plain(path) && within_reach(path)).expect("the system has a temporary folder for all users")
}
