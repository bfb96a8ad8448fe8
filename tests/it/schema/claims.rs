//! One projection has one writer: whoever else wants to write it is turned away, told who is
//! there, and has changed nothing by then.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::folder::one_error_line;
use crate::support::Folder;
use crate::support::events::registered;
use crate::support::server::{Server, lockstream, run};

/// A command on a folder whose projection is in this file.
fn on_file(folder: &Folder, file: &Path) -> Command {
    let mut command = lockstream(folder);
    command.env("DATABASE_URL", format!("sqlite:{}", file.display()));
    command
}

#[tokio::test]
async fn the_file_in_a_data_folder_is_its_server_s_whatever_leads_there() {
    let (folder, other) = (Folder::on_sqlite(), Folder::on_sqlite());
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1")]).await;
    let link = other.path().join("link.db");
    symlink(folder.database(), &link).unwrap();
    for file in [&folder.database(), &link] {
        for arguments in [&[][..], &["rebuild", "--force"]] {
            let mut command = on_file(&other, file);
            let refused = run({
                command.args(arguments);
                command
            });
            let line = one_error_line(&refused);
            assert!(line.starts_with("error: the database is in use: another lockstream process writes it"), "{line}");
        }
    }
    server.accept(&[registered("L", "A2")]).await;
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], 2);
    assert!(server.lines_saying("the projection is held up").is_empty());
}

#[tokio::test]
async fn a_file_behind_a_link_stays_behind_it_when_it_is_rebuilt() {
    let (folder, disk) = (Folder::on_sqlite(), Folder::on_sqlite());
    let (link, file) = (folder.path().join("link.db"), disk.path().join("real.db"));
    symlink(&file, &link).unwrap();
    let rebuild = || {
        let mut command = on_file(&folder, &link);
        command.arg("rebuild");
        let rebuilt = run(command);
        assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
        assert!(link.is_symlink() && file.is_file() && !file.is_symlink());
    };
    let server = Server::spawn(on_file(&folder, &link)).await.unwrap();
    server.accept(&[registered("L", "A1")]).await;
    rebuild();
    server.accept(&[registered("L", "A2")]).await;
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], 2);
    assert!(server.stop().success());
    rebuild();
    let server = Server::spawn(on_file(&folder, &link)).await.unwrap();
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], 2);
}
