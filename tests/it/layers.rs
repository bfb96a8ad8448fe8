//! The architecture, kept: in one crate nothing else stops an import that points the wrong way.

use std::fs;
use std::path::{Path, PathBuf};

/// A layer, and what its files may not name.
const FORBIDDEN: [(&str, &[&str]); 6] = [
    (
        "domain",
        &[
            "crate::application",
            "crate::infrastructure",
            "crate::web",
            "crate::composition",
            "crate::config",
            "crate::torture",
            "crate::simulate",
            "axum",
            "hyper",
            "tower",
            "sqlx",
            "tokio",
            "tracing",
            "std::fs",
            "std::net",
            "std::io",
            "std::thread",
            "std::time",
            "std::env",
            "async ",
            ".await",
            "Utc::now",
            "Uuid::new",
            "Uuid::now",
        ],
    ),
    (
        "application",
        &[
            "crate::infrastructure",
            "crate::web",
            "crate::composition",
            "crate::config",
            "crate::torture",
            "crate::simulate",
            "axum",
            "hyper",
            "tower",
            "sqlx",
            "std::fs",
            "std::net",
            "Utc::now",
            "INSERT",
            "SELECT",
        ],
    ),
    (
        "infrastructure",
        &[
            "crate::web",
            "crate::composition",
            "crate::config",
            "crate::torture",
            "crate::simulate",
            "axum",
            "hyper",
            "tower",
        ],
    ),
    (
        "web",
        &[
            "crate::infrastructure",
            "crate::composition",
            "crate::config",
            "crate::torture",
            "crate::simulate",
            "sqlx",
            "std::fs",
        ],
    ),
    // It knows the server from outside: by HTTP, signals and files.
    ("torture", &["crate::web", "crate::lifecycle", "crate::cli", "application::writer", "axum", "sqlx"]),
    // It knows the names of the rules, and for the rest HTTP alone: any server may be at the other end.
    (
        "simulate",
        &[
            "crate::application",
            "crate::web",
            "crate::composition",
            "crate::config",
            "crate::lifecycle",
            "crate::cli",
            "crate::torture",
            "axum",
            "sqlx",
        ],
    ),
];

#[test]
fn no_import_points_the_wrong_way() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut files_seen = 0;
    for (layer, forbidden) in FORBIDDEN {
        let mut files = vec![source.join(format!("{layer}.rs"))];
        collect(&source.join(layer), &mut files);
        files_seen += files.len();
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                for word in forbidden.iter().filter(|word| code.contains(**word)) {
                    wrong.push(format!("{}:{}: {layer} names {word:?}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(files_seen > 25, "the layers were found: {files_seen} files");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn adapters_and_use_cases_meet_in_the_composition_root_alone() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&source, &mut files);
    let meeting: Vec<_> = files
        .iter()
        .filter(|file| {
            let text = fs::read_to_string(file).unwrap();
            text.contains("infrastructure::sql") && text.contains("crate::application::queries")
        })
        .collect();
    assert_eq!(meeting, [&source.join("composition.rs")]);
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
}
