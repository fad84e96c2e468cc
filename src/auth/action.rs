//! The table of actions: their names, which of several is the most demanding, and what each
//! implies. `polkit/org.poold1.policy` says the same to polkit; a test holds the two together.

/// A polkit action; the same words are in `polkit/org.poold1.policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Action {
    DefinePool,
    ControlPool,
    BuildPool,
    CustomOptions,
    CreateVolume,
    ResizeVolume,
    DeleteVolume,
    ReadVolume,
    WriteVolume,
    Force,
    ManageSecrets,
    CancelJob,
}

use Action as A;

/// One row of the table.
struct Row {
    action: Action,
    word: &'static str,
    id: &'static str,
    /// What it is, for the message of a refusal.
    doing: &'static str,
    /// Of the actions that one request needs, the one of the highest rank is asked for.
    rank: u8,
    /// What who may do this may also do, so that one question is enough.
    implies: &'static [Action],
}

/// Every action. A request about a pool asks for one of the first five, a request about a volume
/// for one of the next five or `force`.
const ACTIONS: &[Row] = &[
    row(
        A::ControlPool,
        "control-pool",
        "org.poold1.control-pool",
        "starting, stopping or refreshing a pool",
        1,
        &[],
    ),
    row(
        A::DefinePool,
        "define-pool",
        "org.poold1.define-pool",
        "changing the definition of a pool",
        2,
        &[A::ControlPool],
    ),
    row(
        A::BuildPool,
        "build-pool",
        "org.poold1.build-pool",
        "making or destroying the storage of a pool",
        3,
        &[A::ControlPool, A::DefinePool],
    ),
    row(
        A::CustomOptions,
        "custom-options",
        "org.poold1.custom-options",
        "using uncommon mount or configuration options",
        4,
        &[A::ControlPool, A::DefinePool, A::BuildPool],
    ),
    row(A::CreateVolume, "create-volume", "org.poold1.create-volume", "creating a volume", 1, &[]),
    row(A::ResizeVolume, "resize-volume", "org.poold1.resize-volume", "resizing a volume", 1, &[]),
    row(A::DeleteVolume, "delete-volume", "org.poold1.delete-volume", "deleting a volume", 2, &[]),
    row(
        A::ReadVolume,
        "read-volume",
        "org.poold1.read-volume",
        "reading a volume",
        3,
        &[A::CreateVolume],
    ),
    row(
        A::WriteVolume,
        "write-volume",
        "org.poold1.write-volume",
        "writing to a volume",
        4,
        &[A::ReadVolume, A::CreateVolume],
    ),
    row(
        A::Force,
        "force",
        "org.poold1.force",
        "acting by force on what may be in use",
        5,
        &[
            A::ControlPool,
            A::CreateVolume,
            A::ResizeVolume,
            A::DeleteVolume,
            A::ReadVolume,
            A::WriteVolume,
        ],
    ),
    row(
        A::ManageSecrets,
        "manage-secrets",
        "org.poold1.manage-secrets",
        "storing or deleting a secret",
        1,
        &[],
    ),
    row(
        A::CancelJob,
        "cancel-job",
        "org.poold1.cancel-job",
        "cancelling another user's job",
        1,
        &[],
    ),
];

const fn row(
    action: Action,
    word: &'static str,
    id: &'static str,
    doing: &'static str,
    rank: u8,
    implies: &'static [Action],
) -> Row {
    Row { action, word, id, doing, rank, implies }
}

impl Action {
    /// Every action.
    pub fn all() -> impl Iterator<Item = Action> {
        ACTIONS.iter().map(|row| row.action)
    }

    /// The action of that word in the interface documents ("define-pool").
    pub fn from_word(word: &str) -> Option<Action> {
        ACTIONS.iter().find(|row| row.word == word).map(|row| row.action)
    }

    /// The word in the interface documents.
    pub fn word(self) -> &'static str {
        self.row().word
    }

    /// polkit's name of it.
    pub fn id(self) -> &'static str {
        self.row().id
    }

    /// What it is, as a message begins: "creating a volume".
    pub fn doing(self) -> &'static str {
        self.row().doing
    }

    /// What who may do this may also do.
    pub fn implies(self) -> &'static [Action] {
        self.row().implies
    }

    /// The one that is asked for when a request needs all of `actions`.
    pub fn most_demanding(actions: impl IntoIterator<Item = Action>) -> Option<Action> {
        actions.into_iter().max_by_key(|action| action.row().rank)
    }

    fn row(self) -> &'static Row {
        ACTIONS.iter().find(|row| row.action == self).unwrap_or(&ACTIONS[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quick_xml::Reader;
    use quick_xml::events::Event;
    use std::collections::BTreeMap;

    const POLICY: &str = include_str!("../../polkit/org.poold1.policy");

    /// Of every action in the policy: any, inactive, active, imply, message.
    fn policy() -> BTreeMap<String, BTreeMap<String, String>> {
        let mut reader = Reader::from_str(POLICY);
        let mut actions: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let (mut id, mut key) = (String::new(), String::new());
        loop {
            match reader.read_event().unwrap() {
                Event::Start(element) => {
                    let value = |name: &str| {
                        let found = element.try_get_attribute(name).unwrap();
                        found.map(|found| found.value.into_owned())
                    };
                    match element.name().as_ref() {
                        "action" => id = value("id").unwrap(),
                        "annotate" => key = value("key").unwrap(),
                        name => key = name.to_owned(),
                    }
                }
                Event::Text(text) if !id.is_empty() => {
                    let text = text.trim().to_owned();
                    if !text.is_empty() {
                        actions.entry(id.clone()).or_default().insert(key.clone(), text);
                    }
                }
                Event::Eof => return actions,
                _ => {}
            }
        }
    }

    #[test]
    fn the_policy_file_has_exactly_the_actions_of_the_table() {
        let mut expected: Vec<_> = Action::all().map(Action::id).collect();
        expected.sort_unstable();
        assert_eq!(policy().keys().map(String::as_str).collect::<Vec<_>>(), expected);
        for action in Action::all() {
            assert_eq!(action.id(), format!("org.poold1.{}", action.word()));
            assert_eq!(Action::from_word(action.word()), Some(action));
        }
    }

    #[test]
    fn the_policy_file_implies_what_the_table_implies() {
        const IMPLY: &str = "org.freedesktop.policykit.imply";
        let policy = policy();
        for action in Action::all() {
            let said = policy[action.id()].get(IMPLY).map_or("", String::as_str);
            let said: Vec<_> = said.split_whitespace().collect();
            let expected: Vec<_> = action.implies().iter().map(|implied| implied.id()).collect();
            assert_eq!(said, expected, "{}", action.id());
        }
    }

    #[test]
    fn nothing_is_allowed_without_a_password_and_what_destroys_asks_each_time() {
        let policy = policy();
        for action in Action::all() {
            let row = &policy[action.id()];
            assert_eq!(row["allow_any"], "auth_admin", "{}", action.id());
            assert_eq!(row["allow_inactive"], "auth_admin", "{}", action.id());
            let keeps = matches!(
                action,
                A::DefinePool | A::ControlPool | A::CreateVolume | A::ResizeVolume
            );
            let expected = if keeps { "auth_admin_keep" } else { "auth_admin" };
            assert_eq!(row["allow_active"], expected, "{}", action.id());
        }
    }

    #[test]
    fn dialogs_name_what_they_are_about() {
        let policy = policy();
        for action in Action::all() {
            let message = &policy[action.id()]["message"];
            let word = action.word();
            let names = if word.ends_with("-volume") && action != A::CreateVolume {
                "$(volume)"
            } else if action == A::ManageSecrets {
                ""
            } else {
                "$(pool)"
            };
            assert!(message.contains(names), "{word}: {message}");
        }
    }

    #[test]
    fn implications_are_closed_and_go_down_in_rank() {
        for action in Action::all() {
            for implied in action.implies() {
                assert!(implied.row().rank < action.row().rank);
                for further in implied.implies() {
                    let force = action == A::Force;
                    assert!(action.implies().contains(further) || force, "{action:?} {further:?}");
                }
            }
        }
    }

    #[test]
    fn the_most_demanding_action_of_any_request_implies_its_others() {
        for needed in [
            &[A::DefinePool, A::BuildPool, A::CustomOptions][..],
            &[A::ControlPool, A::BuildPool],
            &[A::ControlPool, A::Force],
            &[A::DeleteVolume, A::Force],
            &[A::ResizeVolume, A::Force],
            &[A::CreateVolume, A::ReadVolume],
            &[A::ReadVolume, A::WriteVolume, A::Force],
            &[A::CancelJob],
        ] {
            let asked = Action::most_demanding(needed.iter().copied()).unwrap();
            for action in needed {
                assert!(*action == asked || asked.implies().contains(action), "{needed:?}");
            }
        }
        assert_eq!(Action::most_demanding([]), None);
    }
}
