//! What somebody does on pools that nothing is wrong with, while something is wrong with one beside them.

use super::caller::Caller;
use super::world::{World, manager, none, pool, with};
use anyhow::{Context, Result};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use poold::client::{ManagerProxy, PoolProxy, VolumeProxy};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Calls of a burst, and how many of them are under way at a time.
const CALLS: usize = 1000;
const AT_ONCE: usize = 32;

/// A pool of somebody's, and who works with it: root and nobody.
pub struct Others {
    images: PoolProxy<'static>,
    /// The pool beside it, of which only what is known already is asked.
    beside: PoolProxy<'static>,
    ours: ManagerProxy<'static>,
    theirs: ManagerProxy<'static>,
    their_images: PoolProxy<'static>,
    nobody: Caller,
    pools: PathBuf,
    bursts: AtomicUsize,
}

impl Others {
    /// Makes their pool, `images`, beside another.
    pub async fn beside(world: &World, other: &PoolProxy<'static>) -> Result<Self> {
        let images = world.active_pool("images").await?;
        images.create_volume("there.raw", 1 << 20, &none()).await?;
        let nobody = Caller::nobody(world).await?;
        Ok(Self {
            their_images: pool(&nobody.connection, &images.object_path()).await?,
            images,
            beside: other.clone(),
            ours: world.manager().await?,
            theirs: manager(&nobody.connection).await?,
            nobody,
            pools: world.pools(),
            bursts: AtomicUsize::new(0),
        })
    }

    /// Their pool.
    pub fn images(&self) -> &PoolProxy<'static> {
        &self.images
    }

    /// A thousand calls, a few at a time, reads and writes, root's and nobody's; all are answered. How long each took.
    pub async fn a_thousand_calls(&self) -> Result<Latency> {
        let burst = self.bursts.fetch_add(1, Ordering::Relaxed);
        let took: Vec<Duration> = stream::iter(0..CALLS)
            .map(async |number| {
                let begun = Instant::now();
                let called = self.call(number % 10, &format!("{burst}-{number}")).await;
                called.with_context(|| format!("call {number}"))?;
                anyhow::Ok(begun.elapsed())
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(Latency::of(took))
    }

    async fn call(&self, kind: usize, name: &str) -> Result<()> {
        match kind {
            0 => {
                // Some of them by a program.
                let format = if name.ends_with("50") { "qed" } else { "qcow2" };
                let options = with("format", format);
                let (path, _) = self.images.create_volume(name, 1 << 20, &options).await?;
                let connection = self.images.inner().connection();
                VolumeProxy::new(connection, path).await?.delete(&none()).await?;
            }
            1 => drop(self.their_images.list_volumes("", 0, &none()).await?),
            2 => {
                poold::client::objects(&self.nobody.connection, "/org/poold1/pools").await?;
            }
            3 => {
                let path = self.pools.join("images/there.raw");
                self.theirs.lookup_volume(&path.to_string_lossy(), &none()).await?;
            }
            4 => drop(self.ours.list_pools(&none()).await?),
            5 => {
                let path = self.pools.join(format!("p{name}"));
                let document = format!(
                    "<pool type='dir'><name>p{name}</name><target><path>{}</path></target></pool>",
                    path.display()
                );
                let (path, _) = self.ours.define_pool_xml(&document, &none()).await?;
                pool(self.images.inner().connection(), &path).await?.undefine(&none()).await?;
            }
            6 => drop(self.images.refresh(&none()).await?),
            // What is known of the pool beside it is known still.
            7 => drop(self.beside.volume_count().await?),
            8 => drop(self.beside.get_xml(&none()).await?),
            _ => drop(self.theirs.get_capabilities_xml(&none()).await?),
        }
        Ok(())
    }
}

/// How long calls took.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    /// Half of them at most.
    pub median: Duration,
    /// All but one in a hundred at most.
    pub most: Duration,
}

impl Latency {
    fn of(mut took: Vec<Duration>) -> Self {
        took.sort_unstable();
        let at = |part: usize| took.get(took.len() * part / 100).copied().unwrap_or_default();
        Self { median: at(50), most: at(99) }
    }
}
