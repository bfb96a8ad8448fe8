//! The catalogue of problem codes: the status, the title and what to do.

use axum::http::StatusCode;

use crate::domain::violation::Rule;

/// What is known about a code.
#[derive(Debug)]
pub struct Entry {
    pub code: &'static str,
    pub status: StatusCode,
    pub title: &'static str,
    /// What it means and what to do.
    pub advice: &'static str,
}

/// Declares the codes that are no rules once: the enum, the entries and the list of all.
macro_rules! codes {
    ($($name:ident = $code:literal, $status:ident, $title:literal, $advice:literal;)+) => {
        /// A problem code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            /// An event that a rule refuses.
            Rule(Rule),
            $($name),+
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub fn all() -> impl Iterator<Item = Self> {
                Rule::ALL.iter().map(|rule| Self::Rule(*rule)).chain([$(Self::$name),+])
            }

            pub fn entry(self) -> Entry {
                let (code, status, title, advice) = match self {
                    Self::Rule(rule) => {
                        let (title, advice) = rule_text(rule);
                        (rule.code(), StatusCode::CONFLICT, title, advice)
                    }
                    $(Self::$name => ($code, StatusCode::$status, $title, $advice)),+
                };
                Entry { code, status, title, advice }
            }
        }
    };
}

codes! {
    InvalidEvent = "invalid-event", UNPROCESSABLE_ENTITY,
        "The body is not a valid event",
        "Each entry of errors names a place in the event by a JSON Pointer and says what is wrong there. \
                 Mend all of them and send the event again.";
    UnsupportedMediaType = "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE,
        "The content type is not JSON",
        "Send the event with the header content-type: application/json.";
    BodyTooLarge = "body-too-large", PAYLOAD_TOO_LARGE,
        "The body is too large",
        "One event has to fit the limit that the detail names (LOCKSTREAM_MAX_BODY_BYTES).";
    BodyTimeout = "body-timeout", REQUEST_TIMEOUT,
        "The body did not arrive in time",
        "Send the whole body at once. Nothing was recorded; the event can be sent again.";
    BodyInterrupted = "body-interrupted", BAD_REQUEST,
        "The body broke off",
        "The connection ended, or the transfer coding was wrong, before the body was complete. \
                 Nothing was recorded; the event can be sent again.";
    InvalidArray = "invalid-array", UNPROCESSABLE_ENTITY,
        "The body is not one JSON array",
        "Only in the last line of an answer to POST /events/batch. The detail says what is wrong; where the next \
                 element begins cannot be told any more. What has its verdict keeps it. Mend the array, or send one \
                 event a line as application/x-ndjson, and send all of it again: that is always safe.";
    NoSuchPage = "no-such-page", NOT_FOUND,
        "There is nothing at this path",
        "See /docs for the paths of this service. An id in a path must be percent-encoded.";
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED,
        "The path does not take this method",
        "The allow header of the answer names the methods that the path takes.";
    UnknownLocker = "unknown-locker", NOT_FOUND,
        "The locker is unknown",
        "A locker becomes known when its first compartment is registered.";
    UnknownCompartment = "unknown-compartment", NOT_FOUND,
        "The compartment is unknown",
        "A compartment becomes known when it is registered in this locker.";
    UnknownReservation = "unknown-reservation", NOT_FOUND,
        "The reservation is unknown",
        "A reservation becomes known when it is created.";
    Overloaded = "overloaded", SERVICE_UNAVAILABLE,
        "Too many events are waiting",
        "Nothing was recorded. Wait as long as the retry-after header says, then send the event again.";
    ProjectionBehind = "projection-behind", SERVICE_UNAVAILABLE,
        "The database is behind the log",
        "The service is still bringing recorded events into its database. Nothing was recorded by this \
                 request. Wait as long as the retry-after header says, then try again. Operators: see /readyz.";
    DatabaseUnavailable = "database-unavailable", SERVICE_UNAVAILABLE,
        "The database does not answer",
        "Wait as long as the retry-after header says, then try again. Operators: see /readyz and the \
                 service's log lines.";
    InsufficientStorage = "insufficient-storage", INSUFFICIENT_STORAGE,
        "The log's disk is full",
        "Nothing was recorded; queries and duplicates are answered as ever. Wait as long as the retry-after \
                 header says, then send the event again. Operators: see /readyz; free some room, and the service \
                 goes on by itself.";
    LogUnwritable = "log-unwritable", SERVICE_UNAVAILABLE,
        "The log takes no events for now",
        "Nothing was recorded; queries and duplicates are answered as ever. Wait as long as the retry-after \
                 header says, then send the event again. Operators: see /readyz.";
    PastUnreadable = "past-unreadable", SERVICE_UNAVAILABLE,
        "What was recorded before cannot be read",
        "Whether this event, or what it names, was there before is not known for now. Nothing was recorded; other \
                 events are taken as ever. Wait as long as the retry-after header says, then send the event again. \
                 Operators: the service mends this from the log by itself; if it lasts, see `lockstream verify`.";
    LogFailed = "log-failed", SERVICE_UNAVAILABLE,
        "The log cannot be written",
        "The event was not acknowledged and the service is about to end. Send it again, with the same \
                 event_id, when the service is back: that is always safe.";
    Stopping = "stopping", SERVICE_UNAVAILABLE,
        "The service is stopping",
        "Nothing was recorded. Send the event again when the service is back.";
    OutcomeUnknown = "outcome-unknown", SERVICE_UNAVAILABLE,
        "The event was not recorded in time",
        "It may still be recorded. Send it again with the same event_id: that is always safe, and the \
                 answer tells what happened.";
    NotReady = "not-ready", SERVICE_UNAVAILABLE,
        "The service is not ready",
        "The checks in the answer say what is missing.";
    InternalError = "internal-error", INTERNAL_SERVER_ERROR,
        "The service has a bug",
        "This never happens by design. Please report it, with the x-request-id of the answer.";
}

fn rule_text(rule: Rule) -> (&'static str, &'static str) {
    match rule {
        Rule::CompartmentAlreadyRegistered => (
            "The compartment is already registered",
            "A compartment is registered once in its locker. conflicting_sequence is the record that did it.",
        ),
        Rule::CompartmentNotRegistered => (
            "The compartment is not registered",
            "Send a CompartmentRegistered event for this locker and compartment first.",
        ),
        Rule::CompartmentDegraded => (
            "The compartment is degraded",
            "It has an open fault of severity 3 or more, named by fault_event_id. Clear that, or book another one.",
        ),
        Rule::CompartmentOccupied => (
            "The compartment is occupied",
            "It has an active reservation, created by the record conflicting_sequence. Book another one, or wait \
             until that parcel is picked up or its reservation expires.",
        ),
        Rule::ReservationAlreadyExists => (
            "The reservation id was used before",
            "Reservation ids are unique across all lockers, for ever. Use a new one.",
        ),
        Rule::ReservationNotFound => ("The reservation is not known", "Send the ReservationCreated event first."),
        Rule::ReservationElsewhere => (
            "The reservation belongs elsewhere",
            "The reservation was made for another locker or compartment, which the detail names.",
        ),
        Rule::ReservationNotAwaitingDeposit => (
            "The reservation does not await a deposit",
            "A parcel goes in once, while the reservation is CREATED. conflicting_sequence is the record that \
             brought it to its present state.",
        ),
        Rule::ReservationNotAwaitingPickup => (
            "The reservation does not await a pickup",
            "A parcel is taken out once, while the reservation is DEPOSITED. conflicting_sequence is the record \
             that brought it to its present state.",
        ),
        Rule::ReservationAlreadyClosed => (
            "The reservation is already closed",
            "It is PICKED_UP or EXPIRED, by the record conflicting_sequence, and stays so.",
        ),
        Rule::FaultNotFound => {
            ("The fault is not known", "fault_event_id has to be the event_id of an accepted FaultReported event.")
        }
        Rule::FaultElsewhere => {
            ("The fault was reported elsewhere", "The fault belongs to another compartment, which the detail names.")
        }
        Rule::FaultAlreadyCleared => (
            "The fault is already cleared",
            "It was cleared by the record conflicting_sequence. A new defect is a new FaultReported event.",
        ),
    }
}
