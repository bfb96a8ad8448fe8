//! The OpenAPI document: what the route list and the types do not say by themselves.
//!
//! Routes, statuses and bodies come from the handlers. Here are the texts, the schema of an event
//! (seven variants told apart by `type`) and examples that work in their order on a new service.

use std::borrow::Cow;

use serde_json::{Value, json};
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::schema::{
    Discriminator, KnownFormat, ObjectBuilder, OneOfBuilder, Ref, Schema, SchemaFormat, SchemaType, Type as JsonType,
};
use utoipa::openapi::{OpenApi as OpenApiDocument, RefOr};
use utoipa::{OpenApi, PartialSchema, ToSchema};
use utoipa_swagger_ui::Config;

use crate::domain::event::json;
use crate::domain::event::{
    CompartmentRegistered, EventType, FaultCleared, FaultReported, ParcelDeposited, ParcelPickedUp, ReservationCreated,
    ReservationExpired,
};
use crate::domain::ids::{CompartmentId, LockerId, MAX_ID_CHARS, ReservationId, Sequence};
use crate::domain::violation::{Involved, Rule, Violation};
use crate::web::catalogue::Code;
use crate::web::problem::Problem;

/// The document before the routes join it.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Lockstream",
        description = "Takes in the facts of parcel-locker networks, refuses the impossible ones with a reason, \
            keeps the rest for ever, and answers what is.\n\nA *locker* is a whole cabinet, a *compartment* one \
            door, a *reservation* books a compartment for one parcel, a *fault* is a reported defect.",
    ),
    tags(
        (name = "events", description = "Facts in"),
        (name = "lockers", description = "State out: lockers and compartments"),
        (name = "reservations", description = "State out: reservations"),
        (name = "operations", description = "For whoever runs the service"),
    ),
)]
pub struct Document;

/// How Swagger UI shows the document.
#[must_use]
pub fn swagger_config() -> Config<'static> {
    Config::new(["/openapi.json"]).try_it_out_enabled(true).display_request_duration(true)
}

/// Adds what can only be said of the whole document.
#[must_use]
pub fn finish(mut document: OpenApiDocument) -> OpenApiDocument {
    let post = document.paths.paths.get_mut("/events").and_then(|path| path.post.as_mut());
    let body = post.and_then(|post| post.request_body.as_mut()).and_then(in_place);
    let content = body.and_then(|body| body.content.get_mut("application/json")).and_then(in_place);
    let content = content.expect("POST /events takes a JSON body that is described in place");
    for (name, summary, event) in examples() {
        let example = ExampleBuilder::new().summary(summary).value(Some(event)).build();
        content.examples.insert(name.to_owned(), RefOr::T(example));
    }
    let post = document.paths.paths.get_mut("/events/batch").and_then(|path| path.post.as_mut());
    let body = post.and_then(|post| post.request_body.as_mut()).and_then(in_place);
    let content = &mut body.expect("POST /events/batch takes a body that is described in place").content;
    let events: Vec<_> = examples().into_iter().map(|(_, _, event)| event).collect();
    let lines = events.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    for (content_type, example) in [("application/x-ndjson", lines.into()), ("application/json", Value::from(events))] {
        let content = content.get_mut(content_type).and_then(in_place);
        content.expect("both content types are described in place").example = Some(example);
    }
    for (path, item) in &mut document.paths.paths {
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            for (status, response) in &mut operation.responses.responses {
                let example = answer_example(path, status);
                let contents = in_place(response).into_iter().flat_map(|response| response.content.values_mut());
                for content in contents.filter_map(in_place) {
                    content.example.clone_from(&example);
                }
            }
        }
    }
    document
}

/// An answer as it really comes, where the schema's own examples would tell another story.
fn answer_example(path: &str, status: &str) -> Option<Value> {
    let receipt = |status: &str| {
        json!({
            "event_id": "01890a5d-ac96-774b-bcce-b30200000001",
            "status": status,
            "sequence": 1,
            "recorded_at": "2026-11-21T08:01:00.123456Z",
        })
    };
    let of_code = |code: Code| Problem::new(code, format!("{}.", code.entry().title));
    let problem = match (status, path) {
        ("202", "/events") => return Some(receipt("accepted")),
        ("200", "/events") => return Some(receipt("duplicate")),
        ("200", "/events/batch") => {
            let mut line = receipt("accepted");
            line["line"] = 1.into();
            return Some(line);
        }
        ("400", _) => of_code(Code::BodyInterrupted),
        ("404", path) if path.starts_with("/reservations") => of_code(Code::UnknownReservation),
        ("404", path) if path.contains("/compartments") => of_code(Code::UnknownCompartment),
        ("404", _) => of_code(Code::UnknownLocker),
        ("408", _) => of_code(Code::BodyTimeout),
        ("409", _) => refusal_example().into(),
        ("413", _) => of_code(Code::BodyTooLarge),
        ("415", _) => of_code(Code::UnsupportedMediaType),
        ("422", _) => Problem::invalid_event(vec![
            json::Problem::new("/occurred_at", "is required and missing"),
            json::Problem::new("/payload/severity", "must be an integer, not a string"),
        ]),
        ("503", "/events" | "/events/batch") => of_code(Code::Overloaded),
        ("503", path) if path != "/readyz" => of_code(Code::ProjectionBehind),
        _ => return None,
    };
    Some(serde_json::to_value(problem).expect("texts and numbers have a JSON form"))
}

fn refusal_example() -> Violation {
    let id = "an example is a valid id";
    Involved::of(&LockerId::parse("campus-north").expect(id))
        .compartment(&CompartmentId::parse("A1").expect(id))
        .reservation(&ReservationId::parse("parcel-7002").expect(id))
        .refused(
            Rule::CompartmentOccupied,
            Some(Sequence::new(2)),
            "Compartment \"A1\" of locker \"campus-north\" is held by reservation \"parcel-7001\".",
        )
}

/// The thing itself, where it is not a reference to another place.
fn in_place<T>(entry: &mut RefOr<T>) -> Option<&mut T> {
    match entry {
        RefOr::T(entry) => Some(entry),
        RefOr::Ref(_) => None,
    }
}

/// Stands for an event in the document; the schema is named `Event`.
pub struct EventSchema;

impl ToSchema for EventSchema {
    fn name() -> Cow<'static, str> {
        "Event".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        for event_type in EventType::ALL {
            schemas.push((event_type.as_str().to_owned(), envelope(*event_type)));
            schemas.push(payload(*event_type));
        }
    }
}

impl PartialSchema for EventSchema {
    fn schema() -> RefOr<Schema> {
        let one_of = EventType::ALL
            .iter()
            .fold(OneOfBuilder::new(), |one_of, event_type| one_of.item(Ref::from_schema_name(event_type.as_str())));
        let mapping = EventType::ALL
            .iter()
            .map(|event_type| (event_type.as_str(), format!("#/components/schemas/{}", event_type.as_str())));
        one_of
            .description(Some(
                "A fact about one locker. Unknown fields, in the payload and beside it, are kept as sent and \
                 otherwise ignored; a repeated key is an error.",
            ))
            .discriminator(Some(Discriminator::with_mapping("type", mapping)))
            .into()
    }
}

/// The schema of a whole event of one type.
fn envelope(event_type: EventType) -> RefOr<Schema> {
    let string = || ObjectBuilder::new().schema_type(SchemaType::Type(JsonType::String));
    let event_id = string()
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)))
        .description(Some("Chosen by the sender, once for each fact. Sending it again is safe."));
    let occurred_at = string()
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .description(Some("The device's own time, with an offset. Kept, and never used to decide anything."));
    let locker_id = string()
        .min_length(Some(1))
        .max_length(Some(MAX_ID_CHARS))
        .description(Some("The cabinet. No control characters; compared exactly."));
    let (payload_name, _) = payload(event_type);
    ObjectBuilder::new()
        .property("event_id", event_id)
        .required("event_id")
        .property("occurred_at", occurred_at)
        .required("occurred_at")
        .property("locker_id", locker_id)
        .required("locker_id")
        .property("type", string().enum_values(Some([event_type.as_str()])))
        .required("type")
        .property("payload", Ref::from_schema_name(payload_name))
        .required("payload")
        .into()
}

/// The name and schema of a type's payload.
fn payload(event_type: EventType) -> (String, RefOr<Schema>) {
    fn of<T: ToSchema>() -> (String, RefOr<Schema>) {
        (T::name().into_owned(), T::schema())
    }
    match event_type {
        EventType::CompartmentRegistered => of::<CompartmentRegistered>(),
        EventType::ReservationCreated => of::<ReservationCreated>(),
        EventType::ParcelDeposited => of::<ParcelDeposited>(),
        EventType::ParcelPickedUp => of::<ParcelPickedUp>(),
        EventType::ReservationExpired => of::<ReservationExpired>(),
        EventType::FaultReported => of::<FaultReported>(),
        EventType::FaultCleared => of::<FaultCleared>(),
    }
}

/// Examples as name, summary and event. Sent in this order to a new service, each is accepted; the
/// names keep the order, because a document sorts them.
#[must_use]
pub fn examples() -> Vec<(&'static str, &'static str, Value)> {
    use EventType as Type;
    let fault = "01890a5d-ac96-774b-bcce-b30200000005";
    let story = [
        ("1-registered", "1. A door is built in", Type::CompartmentRegistered, json!({"compartment_id": "A1"})),
        (
            "2-reserved",
            "2. It is booked for a parcel",
            Type::ReservationCreated,
            json!({"reservation_id": "parcel-7001", "compartment_id": "A1"}),
        ),
        ("3-deposited", "3. The parcel is put in", Type::ParcelDeposited, json!({"reservation_id": "parcel-7001"})),
        ("4-picked-up", "4. The parcel is taken out", Type::ParcelPickedUp, json!({"reservation_id": "parcel-7001"})),
        ("5-fault", "5. A defect is seen", Type::FaultReported, json!({"compartment_id": "A1", "severity": 3})),
        (
            "6-repaired",
            "6. The defect is repaired",
            Type::FaultCleared,
            json!({"compartment_id": "A1", "fault_event_id": fault}),
        ),
        (
            "7-reserved-again",
            "7. The door is booked again",
            Type::ReservationCreated,
            json!({"reservation_id": "parcel-7002", "compartment_id": "A1"}),
        ),
        ("8-expired", "8. Nobody comes", Type::ReservationExpired, json!({"reservation_id": "parcel-7002"})),
    ];
    let numbered = story.into_iter().zip(1..);
    numbered
        .map(|((name, summary, event_type, payload), number)| {
            let event = json!({
                "event_id": format!("01890a5d-ac96-774b-bcce-b3020000{number:04}"),
                "occurred_at": format!("2026-11-21T08:{number:02}:00Z"),
                "locker_id": "campus-north",
                "type": event_type.as_str(),
                "payload": payload,
            });
            (name, summary, event)
        })
        .collect()
}
