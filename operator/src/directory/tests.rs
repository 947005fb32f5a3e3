use bursar_crds::{StoredToken, TokenQuota, TokenUser};
use bursar_vault::Email;

use super::{Asked, Directory, Listed, Place, Seen, Woken};
use crate::kind::{QuotaLink, TokenLink};

fn place(name: &str) -> Place {
    ("team".to_owned(), name.to_owned())
}

fn seen<L>(generation: i64, said: &str, links: Vec<L>) -> Seen<L> {
    let asked = Asked {
        uid: None,
        generation: Some(generation),
        finalizer: true,
    };
    Seen {
        asked,
        said: said.to_owned(),
        links,
    }
}

fn email(text: &str) -> Email {
    Email::try_from(text).unwrap()
}

/// The names of all that were woken since last time, each once.
fn woken(woken: &mut Woken) -> (Vec<String>, Vec<String>) {
    let (mut users, mut tokens) = (vec![], vec![]);
    while let Ok(user) = woken.users.try_recv() {
        users.push(user.name);
    }
    while let Ok(token) = woken.tokens.try_recv() {
        tokens.push(token.name);
    }
    for names in [&mut users, &mut tokens] {
        names.sort();
        names.dedup();
    }
    (users, tokens)
}

fn directory() -> (Directory, Woken) {
    let (directory, mut queue) = Directory::new();
    let github = vec![TokenLink::User("ana".into()), TokenLink::Secret("s".into())];
    StoredToken::applied(&directory, &place("github"), seen(1, "", github));
    let slack = vec![TokenLink::User("bo".into())];
    StoredToken::applied(&directory, &place("slack"), seen(1, "", slack));
    TokenUser::applied(
        &directory,
        &place("ana"),
        seen(1, "Ready", vec![email("a@x")]),
    );
    woken(&mut queue);
    (directory, queue)
}

#[test]
fn nothing_is_woken_when_nothing_changed() {
    let (directory, mut queue) = directory();
    TokenUser::applied(
        &directory,
        &place("ana"),
        seen(1, "Ready", vec![email("a@x")]),
    );
    let slack = vec![TokenLink::User("bo".into())];
    StoredToken::applied(&directory, &place("slack"), seen(1, "other", slack));
    assert_eq!(woken(&mut queue), (vec![], vec![]));
}

#[test]
fn a_user_wakes_its_tokens_when_its_status_says_something_new_and_when_it_is_gone() {
    let (directory, mut queue) = directory();
    TokenUser::applied(
        &directory,
        &place("ana"),
        seen(1, "Suspended", vec![email("a@x")]),
    );
    assert_eq!(woken(&mut queue), (vec![], vec!["github".to_owned()]));
    TokenUser::removed(&directory, &place("ana"));
    assert_eq!(woken(&mut queue), (vec![], vec!["github".to_owned()]));
}

#[test]
fn users_that_share_an_email_hear_of_each_other() {
    let (directory, mut queue) = directory();
    TokenUser::applied(&directory, &place("bo"), seen(1, "", vec![email("A@x")]));
    assert_eq!(woken(&mut queue).0, ["ana", "bo"]);
    TokenUser::applied(
        &directory,
        &place("ana"),
        seen(2, "Ready", vec![email("b@x")]),
    );
    assert_eq!(
        woken(&mut queue).0,
        ["ana", "bo"],
        "the address that ana gave up is free"
    );
    TokenUser::removed(&directory, &place("ana"));
    assert_eq!(woken(&mut queue).0, Vec::<String>::new());
}

#[test]
fn an_object_that_is_gone_or_another_one_is_ended_once() {
    let (directory, mut queue) = directory();
    let of = |number| Asked {
        uid: Some(uuid::Uuid::from_u128(number).to_string()),
        generation: Some(1),
        finalizer: true,
    };
    let token = |number| Seen {
        asked: of(number),
        said: String::new(),
        links: vec![],
    };
    let mut ended = || queue.gone.try_recv().ok().map(|gone| gone.uid.as_u128());
    StoredToken::applied(&directory, &place("t"), token(1));
    StoredToken::applied(&directory, &place("t"), token(1));
    assert_eq!(ended(), None);
    StoredToken::applied(&directory, &place("t"), token(2));
    assert_eq!(ended(), Some(1));
    StoredToken::removed(&directory, &place("t"));
    StoredToken::removed(&directory, &place("t"));
    assert_eq!((ended(), ended()), (Some(2), None));
}

#[test]
fn a_secret_wakes_the_tokens_that_name_it_and_a_namespace_wakes_all() {
    let (directory, mut queue) = directory();
    directory.secret_changed("team", "s");
    assert_eq!(woken(&mut queue), (vec![], vec!["github".to_owned()]));
    directory.secret_changed("other", "s");
    assert_eq!(woken(&mut queue), (vec![], vec![]));
    directory.namespace_changed("team");
    let all = (
        vec!["ana".to_owned()],
        vec!["github".to_owned(), "slack".to_owned()],
    );
    assert_eq!(woken(&mut queue), all);
}

/// The names of the quotas that were woken since last time, each once.
fn woken_quotas(woken: &mut Woken) -> Vec<String> {
    let mut quotas = vec![];
    while let Ok(quota) = woken.quotas.try_recv() {
        quotas.push(quota.name);
    }
    quotas.sort();
    quotas.dedup();
    quotas
}

#[test]
fn a_user_or_token_wakes_its_quotas_when_it_comes_is_another_one_or_goes() {
    let (directory, mut queue) = directory();
    let none: Vec<String> = vec![];
    for (name, links) in [
        ("of-bo", vec![QuotaLink::User("bo".into())]),
        ("of-key", vec![QuotaLink::Token("key".into())]),
        ("of-all", vec![]),
    ] {
        TokenQuota::applied(&directory, &place(name), seen(1, "", links));
    }
    assert_eq!(woken_quotas(&mut queue), ["of-all", "of-bo", "of-key"]);

    let of = |number: u128| Asked {
        uid: Some(uuid::Uuid::from_u128(number).to_string()),
        generation: Some(1),
        finalizer: true,
    };
    for number in [1, 2] {
        let bo = |said: &str| Seen {
            asked: of(number),
            said: said.to_owned(),
            links: vec![],
        };
        TokenUser::applied(&directory, &place("bo"), bo("Pending"));
        assert_eq!(woken_quotas(&mut queue), ["of-bo"]);
        TokenUser::applied(&directory, &place("bo"), bo("Ready"));
        assert_eq!(woken_quotas(&mut queue), none, "only its status changed");
        let key = Seen {
            asked: of(number),
            said: String::new(),
            links: vec![],
        };
        StoredToken::applied(&directory, &place("key"), key);
        assert_eq!(woken_quotas(&mut queue), ["of-key"]);
    }
    TokenUser::removed(&directory, &place("bo"));
    assert_eq!(woken_quotas(&mut queue), ["of-bo"]);
    StoredToken::removed(&directory, &place("key"));
    assert_eq!(woken_quotas(&mut queue), ["of-key"]);
    directory.namespace_changed("team");
    assert_eq!(woken_quotas(&mut queue), ["of-all", "of-bo", "of-key"]);
}
