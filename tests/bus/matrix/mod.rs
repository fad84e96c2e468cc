//! Dead servers: type of pool, what is wrong with its server, and when that begins. docs/dead-servers.md is the table of
//! what is seen, and what is expected here.
//!
//! In each cell a thousand calls on another pool are answered, the pool says what is wrong within its deadline, and it is
//! usable again without help when the server is back. `POOLD_MATRIX` says which cells: nothing for one of each type and
//! fault, `all`, or words that names of cells (`rbd.frozen.active`) contain. A type is a [`Served`] in `servers.rs`.

mod cell;
mod servers;
mod table;

use super::support::fault::Fault;
use super::support::garbage::Garbage;
use super::support::runner::{Skip, fail, pass_with, skip};
use anyhow::{Result, anyhow, bail, ensure};
use cell::Cell;
pub(super) use cell::plain;
use futures_util::future::join_all;
use servers::{Bricks, Mounts, Rbd, Served, TgtUnits};
use std::cell::RefCell;
pub(super) use table::Expected;
use tokio::sync::Mutex;

/// When it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// Before the pool is started.
    Start,
    /// While it is active, and nobody does anything with it.
    Active,
    /// In the middle of an upload.
    Job,
    /// Before the daemon is killed and started, with an active pool.
    Daemon,
}

impl Moment {
    const ALL: [Self; 4] = [Self::Start, Self::Active, Self::Job, Self::Daemon];

    fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Active => "active",
            Self::Job => "job",
            Self::Daemon => "daemon",
        }
    }
}

/// What all cells of a run share.
struct Run {
    /// Which cells, as `POOLD_MATRIX` says.
    asked: Vec<String>,
    /// Taken by who measures, and by who keeps the processor busy.
    quiet: Mutex<()>,
    /// How many times longer calls took beside a dead server: the median, and the ninety-ninth of a hundred.
    ratios: RefCell<Vec<[f64; 2]>>,
}

impl Run {
    fn wants(&self, name: &str, quick: bool) -> bool {
        match self.asked.as_slice() {
            [] => quick,
            [all] if all == "all" => true,
            words => words.iter().any(|word| name.contains(word.as_str())),
        }
    }

    /// All cells of a type.
    async fn cells_of<S: Served>(&self) {
        let mut server = None;
        for (fault, quick) in Fault::ALL.into_iter().zip(S::QUICK) {
            let wanted =
                |moment: &Moment| self.wants(&named::<S>(fault, *moment), *moment == quick);
            let moments: Vec<_> = Moment::ALL.into_iter().filter(wanted).collect();
            if moments.is_empty() {
                continue;
            }
            let started = match server.take() {
                Some(server) => Ok(server),
                None => S::start(),
            };
            let cells = match started {
                Ok(started) => self.behind(server.insert(started), fault, &moments).await,
                Err(error) => match error.downcast::<Skip>() {
                    Ok(why) => return skip("matrix", S::TYPE, why),
                    Err(error) => return fail("matrix", S::TYPE, format_args!("{error:#}")),
                },
            };
            for (moment, cell) in moments.into_iter().zip(cells) {
                self.report(&named::<S>(fault, moment), S::TYPE, fault, moment, cell);
            }
        }
    }

    /// Cells behind one server, which is broken and mended for all of them. Each has a bus and a daemon of its own.
    async fn behind<S: Served>(
        &self,
        server: &mut S,
        fault: Fault,
        moments: &[Moment],
    ) -> Vec<Result<Cell>> {
        // One after the other: they share what the server has, and its locks are not known to all where it is a fake.
        let mut cells = Vec::new();
        for moment in moments {
            cells.push(Cell::prepare(server, *moment, &self.quiet).await);
        }
        let broken = {
            let _loud = self.quiet.lock().await;
            break_it(server, fault)
        };
        let garbage = match broken {
            Ok(garbage) => garbage,
            Err(error) => return all_failed(moments, &error),
        };
        each(&mut cells, async |cell| cell.broken(&self.quiet).await).await;
        let mended = {
            let _loud = self.quiet.lock().await;
            drop(garbage);
            mend(server, fault)
        };
        if let Err(error) = mended {
            return all_failed(moments, &error);
        }
        each(&mut cells, async |cell| cell.mended().await).await;
        cells
    }

    fn report(&self, name: &str, kind: &str, fault: Fault, moment: Moment, cell: Result<Cell>) {
        let told = cell.and_then(|cell| {
            self.ratios.borrow_mut().push(cell.ratios());
            let (seen, expected) = (cell.seen(), Expected::of(kind, fault, moment)?);
            if expected.0.starts_with("not tried") {
                bail!(Skip(format!("not tried yet: write down {seen}")));
            }
            ensure!(
                expected.is(&seen),
                "docs/dead-servers.md says {:?}, and what is seen is {seen:?}",
                expected.0
            );
            Ok(cell.note())
        });
        match told {
            Ok(note) => pass_with("matrix", name, note),
            Err(error) => match error.downcast::<Skip>() {
                Ok(why) => skip("matrix", name, why),
                Err(error) => fail("matrix", name, format_args!("{error:#}")),
            },
        }
    }
}

fn named<S: Served>(fault: Fault, moment: Moment) -> String {
    format!("{}.{}.{}", S::TYPE, fault.word(), moment.word())
}

fn names<S: Served>() -> Vec<String> {
    let of_fault = |fault| Moment::ALL.map(|moment| named::<S>(fault, moment));
    Fault::ALL.into_iter().flat_map(of_fault).collect()
}

/// A word that no cell is named by would be a run that shows nothing, and passes.
fn refuse_unknown(asked: &[String]) -> Result<()> {
    let names =
        [names::<Rbd>(), names::<TgtUnits>(), names::<Bricks>(), names::<Mounts>()].concat();
    for word in asked.iter().filter(|_| asked != ["all"]) {
        let known = names.iter().any(|name| name.contains(word.as_str()));
        ensure!(known, "POOLD_MATRIX: no cell's name contains {word:?}");
    }
    Ok(())
}

fn all_failed(moments: &[Moment], error: &anyhow::Error) -> Vec<Result<Cell>> {
    moments.iter().map(|_| Err(anyhow!("{error:#}"))).collect()
}

/// A step of all cells at a time; those that failed are left out.
async fn each(cells: &mut [Result<Cell>], step: impl AsyncFn(&mut Cell) -> Result<()>) {
    join_all(cells.iter_mut().map(async |cell| {
        let Ok(well) = cell else { return };
        if let Err(error) = step(well).await {
            well.show_log();
            *cell = Err(error);
        }
    }))
    .await;
}

fn break_it<S: Served>(server: &mut S, fault: Fault) -> Result<Option<Garbage>> {
    match fault {
        Fault::Stopped => server.stop().map(|()| None),
        Fault::Frozen => server.freeze().map(|()| None),
        Fault::Garbage => server.replace(),
    }
}

fn mend<S: Served>(server: &mut S, fault: Fault) -> Result<()> {
    match fault {
        Fault::Frozen => server.thaw(),
        Fault::Stopped | Fault::Garbage => server.start_again(),
    }
}

pub async fn dead_servers_cost_their_own_pools_alone() -> Result<()> {
    let asked = std::env::var("POOLD_MATRIX").unwrap_or_default();
    let asked: Vec<_> = asked.split_whitespace().map(str::to_owned).collect();
    refuse_unknown(&asked)?;
    let run = Run { asked, quiet: Mutex::new(()), ratios: RefCell::default() };
    tokio::join!(
        run.cells_of::<Rbd>(),
        run.cells_of::<TgtUnits>(),
        run.cells_of::<Bricks>(),
        run.cells_of::<Mounts>()
    );
    let ratios = run.ratios.into_inner();
    if !ratios.is_empty() {
        let middle = |which: usize| {
            let mut all: Vec<f64> = ratios.iter().map(|ratios| ratios[which]).collect();
            all.sort_unstable_by(f64::total_cmp);
            all[all.len() / 2]
        };
        println!(
            "matrix: beside a dead server calls on other pools take {:.2} times as long as without \
             (median; {:.2} times the 99th percentile) in the middle of {} cells",
            middle(0),
            middle(1),
            ratios.len()
        );
    }
    Ok(())
}
