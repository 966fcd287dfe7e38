//! Each mapping against its golden file: real records of a gate, and what other systems get of them.
//! `UPDATE_GOLDEN=1 cargo test --lib golden` writes the files anew; what changed is for a person to read.

use std::{fs, path::PathBuf, sync::Arc};

use proptest::prelude::*;

use super::*;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/audit/sinks/golden").join(name)
}

pub fn records() -> Vec<Exported> {
    let origin: Arc<str> = "amlgate-0".into();
    let text = fs::read_to_string(golden("records.ndjson")).unwrap();
    text.lines().enumerate().map(|(at, line)| Exported::new(&origin, at as u64, line.into())).collect()
}

/// One line for each record.
fn held(name: &str, map: impl Fn(&Exported) -> String) {
    let lines: String = records().iter().map(|record| map(record) + "\n").collect();
    let path = golden(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &lines).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    for (at, (line, expected)) in lines.lines().zip(expected.lines()).enumerate() {
        assert_eq!(line, expected, "{name}:{}", at + 1);
    }
    assert_eq!(lines.len(), expected.len(), "{name}");
}

#[test]
fn golden_ecs() {
    held("ecs.ndjson", |record| ecs(record).to_string());
}

#[test]
fn golden_cef() {
    held("cef.txt", cef);
}

#[test]
fn golden_cloud_events() {
    held("cloudevents.ndjson", |record| cloud_events(record).to_string());
}

#[test]
fn golden_clutch() {
    held("clutch.ndjson", |record| clutch(record).to_string());
}

#[test]
fn golden_otlp() {
    held("otlp.ndjson", |record| otlp(std::slice::from_ref(record)).to_string());
}

#[test]
fn golden_azure_monitor() {
    held("azure-monitor.ndjson", |record| azure_monitor(record).to_string());
}

#[test]
fn golden_insights() {
    held("insights.ndjson", |record| insights(record, "00000000-0000-0000-0000-0000000000aa").to_string());
}

#[test]
fn golden_splunk() {
    held("splunk.ndjson", |record| splunk(record, Some("ml"), "amlgate:ocsf").to_string());
}

#[test]
fn golden_syslog() {
    held("syslog.txt", |record| syslog(record, Format::Ocsf, 13));
}

/// A record whose every text is `text`.
fn hostile(text: &str) -> Exported {
    let value = serde_json::json!({
        "action_id": 2, "class_uid": 6003, "status_id": 2, "time": 1,
        "actor": {"user": {"uid": text, "name": text}, "idp": {"name": text}},
        "api": {"operation": text},
        "http_request": {"user_agent": text, "args": text, "url": {"hostname": text, "path": text}},
        "resources": [{"uid": text, "name": text}],
        "status_code": text,
        "unmapped": {"amlgate": {"phase": "denial", "decision": text, "denial": {"code": text, "entry": {"name": text}}}},
    });
    Exported::new(&"log".into(), 7, serde_json::to_vec(&value).unwrap())
}

/// Takes a CEF line apart by its own rules: the head's fields, and the extension's pairs.
fn parsed(line: &str) -> (Vec<String>, Vec<(String, String)>) {
    let (mut fields, mut field, mut chars) = (Vec::new(), String::new(), line.chars());
    while fields.len() < 7 {
        match chars.next().expect("seven fields") {
            '\\' => field.push(chars.next().expect("something escaped")),
            '|' => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    let (mut pairs, mut key, mut value) = (Vec::<(String, String)>::new(), None::<String>, String::new());
    while let Some(c) = chars.next() {
        match c {
            '\\' => value.push(match chars.next().expect("something escaped") {
                'n' => '\n',
                'r' => '\r',
                c => c,
            }),
            '=' => {
                // The word before it is a key; what lies before that belongs to the last one.
                let at = value.rfind(' ').map_or(0, |at| at + 1);
                let next = value.split_off(at);
                if let Some(key) = key.take() {
                    pairs.push((key, value.trim_end_matches(' ').to_owned()));
                }
                key = Some(next);
                value = String::new();
            }
            c => value.push(c),
        }
    }
    pairs.extend(key.map(|key| (key, value)));
    (fields, pairs)
}

proptest! {
    #[test]
    fn no_text_of_a_caller_breaks_out_of_a_line(text in "[ -~\\n\\r\\t|=\\\\\"\\]é]{1,200}") {
        let record = hostile(&text);
        for format in [Format::Ocsf, Format::Ecs, Format::Cef, Format::CloudEvents, Format::Clutch] {
            prop_assert!(!format.line(&record).contains(['\n', '\r']), "{format:?}");
            prop_assert!(!syslog(&record, format, 13).contains(['\n', '\r']), "{format:?}");
        }
    }

    #[test]
    fn a_cef_line_reads_back_as_what_it_says(text in "[!-~|=\\\\]{1,100}") {
        let (fields, pairs) = parsed(&cef(&hostile(&text)));
        prop_assert_eq!(&fields[0], "CEF:0");
        prop_assert_eq!(&fields[4], &text);
        let said = |key: &str| pairs.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str());
        prop_assert_eq!(said("suid"), Some(text.as_str()));
        prop_assert_eq!(said("cs2"), Some(text.as_str()));
        prop_assert_eq!(said("cn1"), Some("7"));
    }

    #[test]
    fn structured_data_of_syslog_ends_where_it_should(text in "[ -~|=\\\\\"\\]]{1,100}") {
        let message = syslog(&hostile(&text), Format::Cef, 13);
        let data = message.split_once('[').unwrap().1;
        let (mut quoted, mut escaped, mut end) = (false, false, None);
        for (at, c) in data.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                ']' if !quoted => { end = Some(at); break; }
                _ => {}
            }
        }
        let behind = "] \u{feff}CEF:0|";
        prop_assert!(data[end.unwrap()..].starts_with(behind));
    }
}
