//! What PropertiesChanged announces and when: most properties at once, those that change all the
//! time (room, progress) at most twice a second for each object.

use super::exposed::{Exposed, Property, changed};
use std::collections::HashMap;
use std::hash::Hash;
use tokio::time::{Duration, Instant};

/// Shortest time between two announcements of a throttled property of an object.
const PAUSE: Duration = Duration::from_millis(500);

/// Objects whose throttled properties were announced a moment ago.
pub(super) struct Throttle<K, T> {
    recent: HashMap<K, Recent<T>>,
}

struct Recent<T> {
    at: Instant,
    /// The state that was announced.
    announced: T,
    /// Whether it has changed since.
    pending: bool,
}

/// Properties to announce.
pub(super) type Changed<T> = Vec<&'static Property<T>>;

impl<K: Eq + Hash + Clone, T: Exposed + Clone> Throttle<K, T> {
    pub(super) fn new() -> Self {
        Self { recent: HashMap::new() }
    }

    /// What to announce now of an object that was `old` and is `new`.
    pub(super) fn update(&mut self, key: &K, old: &T, new: &T, now: Instant) -> Changed<T> {
        let mut announce = changed(old, new, false);
        match self.recent.get_mut(key) {
            Some(recent) => recent.pending = !changed(&recent.announced, new, true).is_empty(),
            None => {
                let throttled = changed(old, new, true);
                if !throttled.is_empty() {
                    let recent = Recent { at: now, announced: new.clone(), pending: false };
                    self.recent.insert(key.clone(), recent);
                    announce.extend(throttled);
                }
            }
        }
        announce
    }

    /// Forgets an object that went.
    pub(super) fn remove(&mut self, key: &K) {
        self.recent.remove(key);
    }

    /// When something may be due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.recent.values().map(|recent| recent.at + PAUSE).min()
    }

    /// The objects whose pause is over and whose throttled properties have changed meanwhile, with
    /// those properties. `current` says how an object is now.
    pub(super) fn flush(
        &mut self,
        now: Instant,
        current: impl Fn(&K) -> Option<T>,
    ) -> Vec<(T, Changed<T>)> {
        let mut announce = Vec::new();
        self.recent.retain(|key, recent| {
            if now < recent.at + PAUSE {
                return true;
            }
            let Some(state) = current(key).filter(|_| recent.pending) else { return false };
            let properties = changed(&recent.announced, &state, true);
            *recent = Recent { at: now, announced: state.clone(), pending: false };
            announce.push((state, properties));
            true
        });
        announce
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, PartialEq)]
    struct Thing {
        state: &'static str,
        bytes: u64,
    }

    impl Exposed for Thing {
        const INTERFACE: &'static str = "a.b";
        const PROPERTIES: &'static [Property<Self>] = &[
            Property::new("State", |thing| thing.state.into()),
            Property::throttled("Bytes", |thing| thing.bytes.into()),
        ];
        fn path(&self) -> String {
            "/".to_owned()
        }
    }

    fn thing(state: &'static str, bytes: u64) -> Thing {
        Thing { state, bytes }
    }

    fn names(changed: Changed<Thing>) -> Vec<&'static str> {
        changed.iter().map(|property| property.name).collect()
    }

    #[test]
    fn progress_is_announced_at_once_and_then_after_a_pause_while_state_never_waits() {
        let mut throttle = Throttle::new();
        let start = Instant::now();
        let first = throttle.update(&1, &thing("running", 0), &thing("running", 1), start);
        assert_eq!(names(first), ["Bytes"]);
        let soon = start + Duration::from_millis(10);
        let second = throttle.update(&1, &thing("running", 1), &thing("running", 2), soon);
        assert!(second.is_empty());
        let third = throttle.update(&1, &thing("running", 2), &thing("done", 3), soon);
        assert_eq!(names(third), ["State"]);

        assert_eq!(throttle.due(), Some(start + PAUSE));
        assert!(throttle.flush(soon, |_| Some(thing("done", 3))).is_empty());
        let later = throttle.flush(start + PAUSE, |_| Some(thing("done", 3)));
        assert_eq!(later.len(), 1);
        assert_eq!(later[0].0.bytes, 3);
        assert_eq!(names(later.into_iter().next().unwrap().1), ["Bytes"]);
    }

    #[test]
    fn what_changed_back_or_went_is_not_announced() {
        let mut throttle = Throttle::new();
        let start = Instant::now();
        throttle.update(&1, &thing("", 0), &thing("", 1), start);
        throttle.update(&1, &thing("", 1), &thing("", 2), start);
        throttle.update(&1, &thing("", 2), &thing("", 1), start);
        throttle.update(&2, &thing("", 0), &thing("", 1), start);
        throttle.update(&2, &thing("", 1), &thing("", 2), start);
        throttle.remove(&2);
        assert!(throttle.flush(start + PAUSE, |_| Some(thing("", 1))).is_empty());
        assert_eq!(throttle.due(), None, "nothing is remembered of objects at rest");
    }
}
