//! The documents, held against the code: what a reader is told is what there is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lockstream::web::catalogue::Code;
use serde_json::Value;

use crate::support::Folder;
use crate::support::documents::{blocks, read, root, section};
use crate::support::server::{Server, lockstream};

/// The settings that `--help` shows, with their defaults.
fn settings_of_help() -> BTreeMap<String, Option<String>> {
    let folder = Folder::on_sqlite();
    let help = lockstream(&folder).env("COLUMNS", "200").arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let mut settings = BTreeMap::new();
    let mut last = "";
    for line in help.lines().map(str::trim) {
        if let Some(variable) = line.strip_prefix("[env: ") {
            last = variable.trim_end_matches(']').split('=').next().unwrap();
            settings.insert(last.to_owned(), None);
        } else if let Some(default) = line.strip_prefix("[default: ") {
            settings.insert(last.to_owned(), Some(default.trim_end_matches(']').to_owned()));
        }
    }
    assert!(settings.len() > 10, "the settings were found: {settings:?}");
    settings
}

/// The lines of `.env.example` that set something once their `# ` is taken away.
fn settings_of_example() -> Vec<(String, String)> {
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    let text = read(".env.example");
    let settings = text.lines().filter_map(|line| line.strip_prefix("# ")?.split_once('='));
    settings.filter(|(name, _)| is_name(name)).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn the_example_of_settings_names_each_setting_with_its_default_and_no_other() {
    let mut expected = settings_of_help();
    // Its default follows the data folder, so the help shows none.
    assert_eq!(expected["DATABASE_URL"], None, "given a default, it would be compared like the others");
    expected.insert("DATABASE_URL".into(), Some("sqlite:./data/projection.db".into()));

    let stated = settings_of_example();
    assert_eq!(stated.len(), expected.len(), "each once: {stated:?}");
    let stated: BTreeMap<_, _> = stated.into_iter().map(|(name, value)| (name, Some(value))).collect();
    assert_eq!(stated, expected);
}

#[test]
fn the_example_of_settings_changes_nothing_when_it_is_copied() {
    let wrong: Vec<_> = read(".env.example")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    assert_eq!(wrong, [""; 0]);
}

#[tokio::test]
async fn the_example_of_settings_can_be_taken_as_it_stands() {
    let folder = Folder::on_sqlite();
    let settings: Vec<_> = settings_of_example().iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    fs::write(folder.path().join(".env"), settings.concat()).unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();

    let server = Server::spawn(lockstream(&folder)).await.expect("these settings start a server");

    assert_eq!(server.get("/readyz").await.status, 200);
    assert!(folder.path().join("data/projection.db").exists(), "the file was read: it says where the database is");
}

#[test]
fn the_table_of_codes_lists_each_code_with_its_status_and_no_other() {
    let guide = read("docs/api.md");
    let stated: Vec<(String, String)> = section(&guide, "## Problem codes")
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|').map(|cell| cell.trim().trim_matches('`').to_owned());
            Some((cells.next()?, cells.next()?))
        })
        .collect();
    let expected: Vec<_> =
        Code::all().map(Code::entry).map(|entry| (entry.code.to_owned(), entry.status.as_str().to_owned())).collect();
    assert_eq!(stated, expected);
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut links_seen = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for link in links(&text) {
            links_seen += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            let found = target.exists() && (heading.is_empty() || anchors(&target).contains(&heading.to_owned()));
            if !found {
                wrong.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(links_seen > 10, "the links were found: {links_seen}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_block_of_json_is_json() {
    for document in documents() {
        for block in blocks(&fs::read_to_string(&document).unwrap(), "json") {
            let parsed: Result<Value, _> = serde_json::from_str(&block);
            assert!(parsed.is_ok(), "{}: {parsed:?} in {block}", document.display());
        }
    }
}

#[test]
fn the_worked_example_of_the_log_format_comes_out_as_it_is_shown() {
    let page = read("docs/log-format.md");
    let example = section(&page, "### Checked by hand");
    let [log, commands, shown] = ["jsonl", "bash", "text"].map(|language| blocks(example, language).concat());
    let folder = Folder::new();
    fs::write(folder.path().join("example.jsonl"), &log).unwrap();

    let output = Command::new("bash").args(["-euo", "pipefail", "-c", &commands]).current_dir(folder.path()).output();
    let output = output.expect("bash is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), shown);
    for (stated, computed) in shown.lines().step_by(2).zip(shown.lines().skip(1).step_by(2)) {
        assert_eq!(stated.split_whitespace().last(), computed.split_whitespace().last(), "by hand as by the service");
    }

    // The service itself takes the example for a log.
    fs::create_dir(folder.log()).unwrap();
    fs::write(folder.log().join("00000000000000000001.jsonl"), &log).unwrap();
    let verified = lockstream(&folder).args(["verify", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!((&report["sound"], &report["head_sequence"]), (&Value::from(true), &Value::from(2)), "{report}");
    assert_eq!(shown.split_whitespace().last(), report["head_hash"].as_str());
}

#[test]
fn the_top_level_holds_what_it_should() {
    const TRACKED: [&str; 8] =
        ["Cargo.lock", "Cargo.toml", "Dockerfile", "README.md", "docs", "migrations", "src", "tests"];
    // Made by building and running, and ignored by git.
    const MADE: [&str; 2] = ["data", "target"];
    let names = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with('.') && !MADE.contains(&name.as_str())).collect();
    names.sort();
    assert_eq!(names, TRACKED);
    assert!(root().join(".env.example").exists());
}

/// The README and every page under `docs`.
fn documents() -> Vec<PathBuf> {
    fn collect(folder: &Path, documents: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, documents);
            } else if path.extension().is_some_and(|end| end == "md") {
                documents.push(path);
            }
        }
    }
    let mut documents = vec![root().join("README.md")];
    collect(&root().join("docs"), &mut documents);
    assert!(documents.len() > 5, "the documents were found: {documents:?}");
    documents
}

/// The relative targets of a page's links.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://"))
}

/// The names by which links reach a page's headings.
fn anchors(document: &Path) -> Vec<String> {
    let text = fs::read_to_string(document).unwrap();
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings.map(anchor).collect()
}
