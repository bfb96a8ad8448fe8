//! A stopped service to be damaged, what its operator is told, and what he does about it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::matrix::layout::Layout;
use crate::support::events::registered;
use crate::support::server::{Ended, Server, lockstream, run};
use crate::support::{Folder, logs};

pub const RECORDS: usize = 60;

/// A service that was stopped in order, its log in several segments, and a copy of that log.
pub struct Stopped {
    pub folder: Folder,
    pub layout: Layout,
    copy: BTreeMap<PathBuf, Vec<u8>>,
}

impl Stopped {
    pub async fn new() -> Self {
        let (folder, layout) = (Folder::new(), Layout::write(RECORDS));
        fs::create_dir(folder.log()).unwrap();
        for (name, bytes) in &layout.segments {
            fs::write(folder.log().join(name), bytes).unwrap();
        }
        assert!(layout.segments.len() >= 4);
        assert!(Server::start(&folder).await.stop().success());
        let copy = logs::files(&folder.log());
        assert_eq!(copy.len(), layout.segments.len(), "a start and a stop add nothing to a log");
        Self { folder, layout, copy }
    }

    pub fn segment(&self, segment: usize) -> PathBuf {
        self.folder.log().join(&self.layout.segments[segment].0)
    }

    pub fn last(&self) -> PathBuf {
        self.segment(self.layout.segments.len() - 1)
    }

    /// Takes away what proves that the log went so far.
    pub fn forget_proofs(&self) {
        fs::remove_file(self.folder.path().join("clean-stop.json")).unwrap();
        self.folder.delete_database();
        // There is one as soon as the server had the time to make it.
        if self.folder.archive().exists() {
            fs::remove_dir_all(self.folder.archive()).unwrap();
        }
    }

    /// The refusal: one line of error, code 1, and the log is as it was.
    pub fn refused(&self) -> String {
        let before = logs::files(&self.folder.log());
        let ended = run(lockstream(&self.folder));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(logs::files(&self.folder.log()) == before, "nothing was changed: {ended:?}");
        let error = ended.stderr.lines().last().unwrap().to_owned();
        assert!(error.starts_with("error: "), "{error}");
        error
    }

    pub fn verify(&self) -> Ended {
        let before = logs::files(&self.folder.log());
        let mut verify = lockstream(&self.folder);
        verify.args(["verify", "--json"]);
        let ended = run(verify);
        assert!(logs::files(&self.folder.log()) == before, "nothing was changed: {ended:?}");
        ended
    }

    /// The one finding of `verify`, and how far it says that the log is sound.
    pub fn found(&self) -> (String, String, u64) {
        let ended = self.verify();
        assert_eq!(ended.code, Some(3), "{ended:?}");
        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        let findings = report["findings"].as_array().unwrap();
        assert_eq!(findings.len(), 1, "{report}");
        let text = |name: &str| findings[0][name].as_str().unwrap().to_owned();
        (text("code"), text("detail"), report["head_sequence"].as_u64().unwrap())
    }

    /// A wrong path and a lost folder look the same; either way there is nothing to verify.
    pub fn verify_code_without_folder(&self) -> Option<i32> {
        let mut verify = lockstream(&self.folder);
        verify.arg("verify");
        let ended = run(verify);
        says(&ended.stderr, &["there is no log in", shown(&self.folder.log()), "LOCKSTREAM_DATA_DIR"]);
        ended.code
    }

    /// Puts the files back that are missing or differ, as an operator does from a backup.
    pub fn restore(&self) {
        fs::create_dir_all(self.folder.log()).unwrap();
        for (path, bytes) in &self.copy {
            if path.is_file() && fs::read(path).unwrap() == *bytes {
                continue;
            }
            let _ = fs::remove_file(path);
            fs::write(path, bytes).unwrap();
        }
    }

    /// It starts, knows all that it knew, and goes on.
    pub async fn goes_on(&self, records: usize) {
        let verified = self.verify();
        assert_eq!(verified.code, Some(0), "{verified:?}");
        let server = Server::start(&self.folder).await;
        let known = &self.folder.records()[records - 1];
        let again = server.post(&known["event"]).await;
        assert_eq!((again.status, again.sequence()), (200, records as u64));
        let next = server.post(&registered("another", "A1")).await;
        assert_eq!((next.status, next.sequence()), (202, records as u64 + 1));
        assert!(server.stop().success());
    }
}

pub fn says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "{part:?} is missing in {error}");
    }
}

pub fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}
