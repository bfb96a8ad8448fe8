//! The mark of a clean stop, which is a file like any other and may hold anything.

use std::fs;

use lockstream::infrastructure::data_folder::{DataFolder, DataFolderError};

/// Any content of `clean-stop.json`.
pub fn mark(content: &[u8]) {
    let root = super::folder();
    let folder = DataFolder::new(root.path());
    fs::write(root.path().join("clean-stop.json"), content).expect("there is room");
    match folder.clean_stop() {
        Ok(mark) => {
            let head = mark.expect("a mark that is there is never overlooked");
            folder.mark_clean_stop(head).expect("there is room");
            assert_eq!(folder.clean_stop().expect("it was just written"), Some(head));
        }
        Err(error) => {
            assert!(matches!(error, DataFolderError::BadMark { .. }), "{error}");
            assert!(error.to_string().contains("clean-stop.json"), "{error}");
        }
    }
}
