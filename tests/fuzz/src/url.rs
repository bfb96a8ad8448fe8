//! `DATABASE_URL`.

use lockstream::infrastructure::sql::url::DatabaseUrl;

/// Stands in the seeds where a password does.
const SECRET: &str = "hunter2";

/// Any value of the setting.
pub fn url(bytes: &[u8]) {
    let Ok(url) = std::str::from_utf8(bytes) else { return };
    match url.parse::<DatabaseUrl>() {
        Ok(DatabaseUrl::Sqlite(path)) => {
            let path = path.to_str().expect("it was text");
            assert!(url.starts_with("sqlite:") && url.ends_with(path) && !path.is_empty() && !path.contains('?'));
        }
        Ok(postgres @ DatabaseUrl::Postgres(_)) => {
            assert!(url.starts_with("postgres://") || url.starts_with("postgresql://"));
            let shown = format!("{postgres} {postgres:?}");
            // A database, a host or a parameter may be shown, and such may stand before an `@` too.
            let is_login = |(login, _): (&str, &str)| !login.contains(['/', '?', '#']);
            let has_login = url.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).is_some_and(is_login);
            assert!(!(is_secret(url) && has_login && shown.contains(SECRET)), "{shown}");
        }
        Err(reason) => {
            assert!(!reason.is_empty() && !reason.contains('\n'), "one line says what is wrong: {reason:?}");
            assert!(!is_secret(url) || !reason.contains(SECRET), "{reason}");
        }
    }
}

/// Whether the secret stands once, in the place of a password: behind the user's colon and before
/// the last `@`.
fn is_secret(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else { return false };
    let Some((login, _)) = rest.rsplit_once('@') else { return false };
    let Some((user, password)) = login.split_once(':') else { return false };
    url.matches(SECRET).count() == 1 && password.contains(SECRET) && !user.contains(['/', '?', '#'])
}
