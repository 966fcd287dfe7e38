//! How sessions lie on the disk.

use std::fs;

use super::*;

fn session(access: &str) -> Session {
    Session {
        issuer_name: "corp".to_owned(),
        issuer: "https://login.example".to_owned(),
        client_id: "cli".to_owned(),
        scopes: vec!["openid".to_owned()],
        trust: None,
        tokens: Tokens { access: access.into(), refresh: None, expires: 2_000_000_000, bound: false },
    }
}

fn access(sessions: &Sessions, gate: &str) -> String {
    sessions.find(Some(gate)).unwrap().1.tokens.access.expose_secret().to_owned()
}

fn at(home: &tempfile::TempDir) -> Sessions {
    Sessions::at(home.path().join("amlgate"))
}

fn text(sessions: &Sessions) -> String {
    fs::read_to_string(sessions.file()).unwrap()
}

const A: &str = "https://a.example";
const B: &str = "https://b.example";

#[test]
fn without_a_keyring_that_answers_the_tokens_lie_in_the_file_and_it_is_said_why() {
    let home = tempfile::tempdir().unwrap();
    let (locked, _unlock) = Keyring::locked();
    let silent = KeyringError::Silent(Duration::from_millis(20));
    for (keyring, why) in [(Keyring::absent(), KeyringError::None("none".to_owned())), (locked, silent)] {
        let sessions = at(&home).sealed_by(keyring);
        assert_eq!(sessions.keep(A, session("secret")).unwrap(), Kept::Plain(Some(why)));
        assert_eq!(access(&sessions, A), "secret");
        assert!(text(&sessions).contains("secret"));
    }
    assert_eq!(at(&home).keep(A, session("secret")).unwrap(), Kept::Plain(None));
    assert_eq!(at(&home).forget(None).unwrap(), A);
}

#[cfg(feature = "keyring")]
mod with_a_keyring {
    use std::{sync::Arc, thread};

    use keyring_core::{CredentialStore, Entry, mock};

    use super::*;

    /// A keyring in memory.
    fn keyring() -> (Arc<CredentialStore>, Keyring) {
        let store: Arc<CredentialStore> = mock::Store::new().unwrap();
        (Arc::clone(&store), Keyring::of(store))
    }

    fn entry(store: &Arc<CredentialStore>, sessions: &Sessions) -> Entry {
        store.build("amlgate", &sessions.entry(), None).unwrap()
    }

    #[test]
    fn what_lies_on_the_disk_is_worth_nothing_without_the_keyring() {
        let home = tempfile::tempdir().unwrap();
        let (_, keyring) = keyring();
        let sessions = at(&home).sealed_by(keyring.clone());
        assert_eq!(sessions.keep(A, session("secret-a")).unwrap(), Kept::Sealed);
        assert_eq!(sessions.keep(B, session("secret-b")).unwrap(), Kept::Sealed);
        let sealed = text(&sessions);
        for told in ["secret", "example", "corp", "access"] {
            assert!(!sealed.contains(told), "{sealed}");
        }
        // Another process, which asks the keyring itself.
        let other = at(&home).sealed_by(keyring);
        assert_eq!((access(&other, A), access(&other, B)), ("secret-a".to_owned(), "secret-b".to_owned()));
        let refused = at(&home).find(None).unwrap_err();
        assert!(matches!(refused, SessionError::Sealed { source: Unopened::NotAsked, .. }), "{refused:?}");
        let absent = at(&home).sealed_by(Keyring::absent()).find(None).unwrap_err();
        assert!(absent.to_string().contains("amlgate login"), "{absent}");
        let (locked, _unlock) = Keyring::locked();
        let silent = at(&home).sealed_by(locked).find(None).unwrap_err();
        let why = std::error::Error::source(&silent).unwrap().to_string();
        assert!(why.contains("unlocked"), "{why}");
    }

    #[test]
    fn a_file_that_was_changed_or_is_of_another_folder_opens_not_at_all() {
        let home = tempfile::tempdir().unwrap();
        let (_, keyring) = keyring();
        let sessions = at(&home).sealed_by(keyring.clone());
        sessions.keep(A, session("secret")).unwrap();
        let whole = text(&sessions);
        let at_end = whole.len() - 4;
        let flipped = if &whole[at_end..=at_end] == "A" { "B" } else { "A" };
        let changed = format!("{}{flipped}{}", &whole[..at_end], &whole[at_end + 1..]);
        write_private(&sessions.file(), changed.as_bytes()).unwrap();
        let lost = sessions.find(None).unwrap_err();
        assert!(matches!(lost, SessionError::Sealed { source: Unopened::Lost, .. }), "{lost:?}");
        let elsewhere = tempfile::tempdir().unwrap();
        let other = at(&elsewhere).sealed_by(keyring);
        other.keep(B, session("other")).unwrap();
        write_private(&other.file(), whole.as_bytes()).unwrap();
        assert!(matches!(other.find(None), Err(SessionError::Sealed { source: Unopened::Lost, .. })));
    }

    #[test]
    fn a_sign_in_seals_what_lay_there_plain_and_opens_it_again_where_it_is_told_to() {
        let home = tempfile::tempdir().unwrap();
        let (_, keyring) = keyring();
        at(&home).keep(A, session("secret-a")).unwrap();
        let sessions = at(&home).sealed_by(keyring);
        // Found as it lies; nobody signed in again.
        assert_eq!(access(&sessions, A), "secret-a");
        assert!(text(&sessions).contains("secret-a"));
        sessions.keep(B, session("secret-b")).unwrap();
        assert!(!text(&sessions).contains("secret"));
        assert_eq!(access(&sessions, A), "secret-a");
        // Without the keyring nothing of before can be opened, and the sign-in goes on all the same.
        let plain = sessions.clone().without_keyring();
        assert_eq!(plain.keep(B, session("secret-b")).unwrap(), Kept::Plain(None));
        assert!(matches!(plain.find(Some(A)), Err(SessionError::Nobody(_))));
        assert_eq!(access(&plain, B), "secret-b");
    }

    #[test]
    fn the_last_sign_out_takes_the_key_along() {
        let home = tempfile::tempdir().unwrap();
        let (store, keyring) = keyring();
        let sessions = at(&home).sealed_by(keyring);
        sessions.keep(A, session("secret-a")).unwrap();
        sessions.keep(B, session("secret-b")).unwrap();
        let first = entry(&store, &sessions).get_password().unwrap();
        sessions.forget(Some(B)).unwrap();
        assert_eq!(entry(&store, &sessions).get_password().unwrap(), first);
        sessions.forget(None).unwrap();
        assert!(matches!(entry(&store, &sessions).get_password(), Err(keyring_core::Error::NoEntry)));
        assert!(matches!(sessions.find(None), Err(SessionError::Nobody(None))));
        assert!(sessions.clear().unwrap(), "nothing is left");
        sessions.keep(A, session("secret-a")).unwrap();
        assert_ne!(entry(&store, &sessions).get_password().unwrap(), first);
        assert_eq!(access(&sessions, A), "secret-a");
    }

    #[test]
    fn whose_key_is_gone_from_the_keyring_signs_in_again() {
        let home = tempfile::tempdir().unwrap();
        let (store, keyring) = keyring();
        at(&home).sealed_by(keyring.clone()).keep(A, session("old")).unwrap();
        let sessions = at(&home).sealed_by(keyring.clone());
        entry(&store, &sessions).delete_credential().unwrap();
        let lost = sessions.find(None).unwrap_err();
        assert!(matches!(lost, SessionError::Sealed { source: Unopened::Lost, .. }), "{lost:?}");
        // Nobody is signed in: `env --uninstall` takes the file away, a sign-in makes another.
        assert!(sessions.clear().unwrap());
        assert_eq!(sessions.keep(A, session("new")).unwrap(), Kept::Sealed);
        // What is no key of here is not used as one.
        entry(&store, &sessions).set_password("hunter2").unwrap();
        assert!(at(&home).sealed_by(keyring.clone()).find(None).is_err());
        assert_eq!(at(&home).sealed_by(keyring).keep(A, session("newer")).unwrap(), Kept::Sealed);
        assert_eq!(access(&sessions, A), "newer", "a process that knew the old key asks for the new one");
    }

    #[test]
    fn a_keyring_that_will_not_remove_the_key_does_not_keep_anybody_signed_in() {
        let home = tempfile::tempdir().unwrap();
        let (store, keyring) = keyring();
        let sessions = at(&home).sealed_by(keyring);
        sessions.keep(A, session("secret")).unwrap();
        let held = entry(&store, &sessions);
        let held: &mock::Cred = held.as_any().downcast_ref().unwrap();
        sessions.find(None).unwrap();
        held.set_error(keyring_core::Error::NotSupportedByStore("never".to_owned()));
        let left = sessions.forget(None).unwrap_err();
        assert!(
            matches!(&left, SessionError::Left { .. }) && left.to_string().contains("nobody is signed in")
        );
        assert!(matches!(sessions.find(None), Err(SessionError::Nobody(None))));
    }

    #[test]
    fn twenty_at_once_lose_no_session() {
        let home = tempfile::tempdir().unwrap();
        let (_, keyring) = keyring();
        thread::scope(|scope| {
            for at_gate in 0..20 {
                let sessions = at(&home).sealed_by(keyring.clone());
                scope.spawn(move || {
                    let gate = format!("https://{at_gate}.example");
                    assert_eq!(sessions.keep(&gate, session(&gate)).unwrap(), Kept::Sealed);
                });
            }
        });
        let sessions = at(&home).sealed_by(keyring);
        for at_gate in 0..20 {
            let gate = format!("https://{at_gate}.example");
            assert_eq!(access(&sessions, &gate), gate);
        }
    }
}
