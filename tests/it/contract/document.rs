//! The OpenAPI document: in step with the code, complete, and true.

use std::fs;
use std::path::Path;

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::support::Folder;
use crate::support::events::{cleared, event, fault, registered, reserved};
use crate::support::server::{Answer, Server};
use crate::support::views::locker_path;

pub async fn served(server: &Server) -> Value {
    let answer = server.get("/openapi.json").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    answer.json()
}

/// A validator for a schema of the document, by its name.
pub fn validator(document: &Value, name: &str) -> Validator {
    let mut root = document.clone();
    assert!(root["components"]["schemas"][name].is_object(), "there is no schema {name}");
    root["$ref"] = json!(format!("#/components/schemas/{name}"));
    jsonschema::draft202012::options().should_validate_formats(true).build(&root).unwrap()
}

fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let all = paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (path.clone(), method.to_uppercase(), operation))
    });
    all.collect()
}

/// Run with `LOCKSTREAM_UPDATE=1` to write the file anew after a wanted change.
#[tokio::test]
async fn the_committed_document_is_the_served_one() {
    let folder = Folder::new();
    let served = served(&Server::start(&folder).await).await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let text = serde_json::to_string_pretty(&served).unwrap() + "\n";
    if std::env::var_os("LOCKSTREAM_UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == text, "docs/openapi.json is stale: run this test with LOCKSTREAM_UPDATE=1 and commit it");
}

#[tokio::test]
async fn it_describes_every_call_with_a_summary_and_all_its_statuses() {
    let folder = Folder::new();
    let document = served(&Server::start(&folder).await).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let mut found = Vec::new();
    for (path, method, operation) in operations(&document) {
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{path}");
        let responses = operation["responses"].as_object().unwrap();
        for (status, response) in responses {
            assert!(!response["description"].as_str().unwrap().is_empty(), "{path} {status}");
            let content = response["content"].as_object().unwrap().keys().next().unwrap();
            let expected = match (status.starts_with('2'), path.as_str()) {
                (true, "/events/batch") => "application/x-ndjson",
                (true, _) => "application/json",
                (false, _) => "application/problem+json",
            };
            assert_eq!(content, expected, "{path} {status}");
            let may_pass = ["503", "507"].contains(&status.as_str());
            assert_eq!(may_pass, response["headers"]["retry-after"].is_object(), "{path} {status}");
        }
        let mut statuses: Vec<_> = responses.keys().map(String::as_str).collect();
        statuses.sort_unstable();
        found.push(format!("{method} {path}: {}", statuses.join(" ")));
    }
    found.sort();
    let expected = [
        "GET /livez: 200",
        "GET /lockers/{locker_id}/compartments/{compartment_id}: 200 404 503",
        "GET /lockers/{locker_id}: 200 404 503",
        "GET /readyz: 200 503",
        "GET /reservations/{reservation_id}: 200 404 503",
        "POST /events/batch: 200 400 408 415 503",
        "POST /events: 200 202 400 408 409 413 415 422 503 507",
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn its_schemas_have_their_names_and_every_reference_leads_somewhere() {
    let folder = Folder::new();
    let document = served(&Server::start(&folder).await).await;
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for name in [
        "Event",
        "LockerSummary",
        "CompartmentStatus",
        "ReservationStatus",
        "CompartmentRegisteredPayload",
        "ReservationCreatedPayload",
        "ParcelDepositedPayload",
        "ParcelPickedUpPayload",
        "ReservationExpiredPayload",
        "FaultReportedPayload",
        "FaultClearedPayload",
        "Receipt",
        "BatchLine",
        "Problem",
    ] {
        assert!(schemas.contains_key(name), "there is no schema {name}");
        validator(&document, name);
    }
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(references.len() > 20);
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("a reference within the document");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

fn collect_references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(target) if name == "$ref" => found.push(target.clone()),
                    // The discriminator refers to schemas too.
                    Value::Object(mapping) if name == "mapping" => {
                        found.extend(mapping.values().map(|target| target.as_str().unwrap().to_owned()));
                    }
                    _ => collect_references(member, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn its_examples_work_in_their_order_on_a_new_service() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let document = served(&server).await;
    let examples = document["paths"]["/events"]["post"]["requestBody"]["content"]["application/json"]["examples"]
        .as_object()
        .unwrap();
    let event_schema = validator(&document, "Event");
    // Their summaries are numbered, because a document's keys have no order.
    // As they stand in the document: the first is what somebody who just presses sends.
    let examples: Vec<_> = examples.values().collect();
    for example in &examples {
        assert!(event_schema.is_valid(&example["value"]), "{example}");
        server.accept([&example["value"]]).await;
    }
    let mut types: Vec<_> = examples.iter().map(|example| example["value"]["type"].as_str().unwrap()).collect();
    types.sort_unstable();
    types.dedup();
    assert_eq!(types.len(), 7, "an example for each type");

    // Then the examples of the paths name things that exist.
    for (path, method, operation) in operations(&document).into_iter().filter(|(_, method, _)| method == "GET") {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let path = parameters.iter().fold(path, |path, parameter| {
            let (name, example) = (parameter["name"].as_str().unwrap(), parameter["example"].as_str().unwrap());
            path.replace(&format!("{{{name}}}"), example)
        });
        assert_eq!(server.send(&method, &path, &[], "").await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn real_answers_are_what_it_says() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let document = served(&server).await;
    let fault = fault("L", "A1", 3);
    let accepted = server.post(&registered("L", "A1")).await;
    server.accept(&[reserved("L", "A1", "R1"), fault.clone()]).await;
    let mut other = fault.clone();
    other["payload"]["severity"] = json!(4);
    let unknown_fault = json!({"event_id": "01890a5d-ac96-774b-bcce-b302099a8057"});

    let answers: [(&str, Answer); 15] = [
        ("Receipt", accepted),
        ("Receipt", server.post(&fault).await),
        ("Receipt", server.post(&other).await),
        ("LockerSummary", server.get(&locker_path("L")).await),
        ("CompartmentStatus", server.get("/lockers/L/compartments/A1").await),
        ("ReservationStatus", server.get("/reservations/R1").await),
        ("Alive", server.get("/livez").await),
        ("Readiness", server.get("/readyz").await),
        ("Problem", server.get("/lockers/X").await),
        ("Problem", server.post(&registered("L", "A1")).await),
        ("Problem", server.post(&reserved("L", "A1", "R2")).await),
        ("Problem", server.post(&cleared("L", "A1", &unknown_fault)).await),
        ("Problem", server.post(&json!({})).await),
        ("Problem", server.post_raw("text/plain", "").await),
        ("Problem", server.post_raw("application/json", "x".repeat(70_000)).await),
    ];
    for (schema, answer) in answers {
        let validator = validator(&document, schema);
        let body = answer.json();
        let errors: Vec<_> = validator.iter_errors(&body).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{schema}: {errors:?} in {body}");
        // What is not described is not sent.
        let mut described = Vec::new();
        collect_properties(&document, &document["components"]["schemas"][schema], &mut described);
        let sent = body.as_object().unwrap().keys();
        let stray: Vec<_> = sent.filter(|name| !described.contains(name)).collect();
        assert!(stray.is_empty(), "{schema} does not describe {stray:?}");
    }
}

/// The names that a schema describes, through its references and parts.
fn collect_properties(document: &Value, schema: &Value, found: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        collect_properties(document, document.pointer(&reference[1..]).unwrap(), found);
    }
    found.extend(schema["properties"].as_object().into_iter().flat_map(|properties| properties.keys().cloned()));
    for part in schema["allOf"].as_array().into_iter().flatten() {
        collect_properties(document, part, found);
    }
}

#[tokio::test]
async fn it_refuses_what_the_service_refuses() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let schema = validator(&served(&server).await, "Event");
    let with = |event_type: &str, payload: Value| event(event_type, "L", payload);
    let mut no_offset = registered("L", "A1");
    no_offset["occurred_at"] = json!("2026-11-21T08:00:00");
    let mut extra = registered("L", "A1");
    extra["firmware"] = json!("7.1");
    extra["payload"]["door"] = json!({"width_mm": 400});

    for valid in [extra, with("FaultReported", json!({"compartment_id": "A1", "severity": 3}))] {
        assert!(schema.is_valid(&valid), "{valid}");
        assert_ne!(server.post(&valid).await.status, 422, "{valid}");
    }
    for invalid in [
        no_offset,
        with("DoorOpened", json!({"compartment_id": "A1"})),
        with("CompartmentRegistered", json!({})),
        with("CompartmentRegistered", json!({"compartment_id": ""})),
        with("CompartmentRegistered", json!({"compartment_id": "x".repeat(129)})),
        with("FaultReported", json!({"compartment_id": "A1", "severity": "3"})),
        with("FaultReported", json!({"compartment_id": "A1", "severity": 3.5})),
        with("FaultReported", json!({"compartment_id": "A1", "severity": true})),
        with("FaultCleared", json!({"compartment_id": "A1", "fault_event_id": "no uuid"})),
        with("ParcelDeposited", json!({"compartment_id": "A1"})),
        with("ParcelDeposited", json!([])),
        json!({}),
    ] {
        assert!(!schema.is_valid(&invalid), "{invalid}");
        assert_eq!(server.post(&invalid).await.status, 422, "{invalid}");
    }
}

#[tokio::test]
async fn the_pages_for_people_come_from_the_binary() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let page = server.get("/docs").await;
    assert_eq!(page.status, 200, "/docs leads to the page");
    assert!(page.body.contains("Swagger UI"));
    assert!(!page.body.contains("https://") && !page.body.contains("http://"), "nothing is fetched from elsewhere");
    for file in ["swagger-ui-bundle.js", "swagger-ui.css", "swagger-initializer.js"] {
        assert_eq!(server.get(&format!("/docs/{file}")).await.status, 200, "{file}");
    }
    assert_eq!(server.get("/").await.body, page.body, "the front door leads there too");
}
