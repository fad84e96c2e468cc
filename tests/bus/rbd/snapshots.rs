//! Snapshots of images: others', and those that clones are made from.

use super::*;

impl Cluster {
    /// Names of an image's snapshots, and whether they are protected.
    fn snapshots(&self, image: &str) -> Result<Vec<(String, bool)>> {
        let known = self.rbd(&["snap", "ls", &self.image(image)])?;
        let known = known.as_array().context("no list")?.iter();
        let read = |snapshot: &serde_json::Value| {
            let name = snapshot["name"].as_str()?.to_owned();
            Some((name, snapshot["protected"] == "true"))
        };
        known.map(|each| read(each).context("no name")).collect()
    }

    /// `rbd` with these words.
    fn do_rbd(&self, words: &str) -> Result<()> {
        self.admin("rbd", &words.split(' ').collect::<Vec<_>>()).map(drop)
    }
}

pub async fn snapshots_go_with_their_image_when_that_is_asked_for() -> Result<()> {
    let cluster = cluster("snapshots")?;
    let (world, pool) = started(&cluster).await?;
    let busy = status_of(ErrorKind::Busy);
    done(&world, "vol create ceph/base 8M").await?;
    for words in [
        "snap create --no-progress snapshots/base@one",
        "snap create --no-progress snapshots/base@two",
        "snap protect snapshots/base@two",
    ] {
        cluster.do_rbd(words)?;
    }
    pool.refresh(&none()).await?;
    ensure!(volume_names(&pool).await? == ["base"], "they are no volumes");
    fails(&world, "vol delete ceph/base", busy, "say snapshots").await?;
    fails(&world, "vol delete ceph/base --force", busy, "say snapshots").await?;

    // Somebody's clone, of the one that is looked at last, stands against all of it; in the trash too.
    let all = [("one".to_owned(), false), ("two".to_owned(), true)];
    cluster.do_rbd("clone snapshots/base@two snapshots/theirs")?;
    fails(&world, "vol delete ceph/base --snapshots", busy, "snapshots/theirs").await?;
    ensure!(cluster.snapshots("base")? == all, "nothing is lost");
    cluster.do_rbd("trash mv snapshots/theirs")?;
    fails(&world, "vol delete ceph/base --snapshots --force", busy, "trash").await?;
    ensure!(cluster.snapshots("base")? == all, "nothing is lost");
    cluster.do_rbd("trash purge --no-progress snapshots")?;

    // Who has it open, and a group that it is in, too.
    let guest = Guest::open(&cluster, "base").await?;
    fails(&world, "vol delete ceph/base --snapshots --force", busy, "127.0.0.1").await?;
    drop(guest);
    cluster.do_rbd("group create snapshots/group")?;
    cluster.do_rbd("group image add snapshots/group snapshots/base")?;
    fails(&world, "vol delete ceph/base --snapshots", busy, "group snapshots/group").await?;
    cluster.do_rbd("group rm snapshots/group")?;
    ensure!(cluster.snapshots("base")? == all, "nothing is lost");

    // A clone of poold's has no part in them.
    done(&world, "vol clone ceph/base child").await?;
    fails(&world, "vol delete ceph/base --snapshots", busy, "snapshots/child").await?;
    ensure!(cluster.snapshots("base")? == all, "nothing is lost");
    done(&world, "vol delete ceph/child").await?;
    done(&world, "vol delete ceph/base --snapshots").await?;
    ensure!(cluster.images()?.is_empty());

    // Types whose volumes have no snapshots say so.
    world.active_pool("files").await?;
    done(&world, "vol create files/one 1M").await?;
    let unsupported = status_of(ErrorKind::NotSupported);
    fails(&world, "vol delete files/one --snapshots", unsupported, "delete-snapshots").await?;
    done(&world, "vol delete files/one").await?;
    ensure!(pool.operations().await?.contains(&"delete-snapshots".to_owned()));
    Ok(())
}

pub async fn clones_of_an_old_cluster_hold_their_snapshot() -> Result<()> {
    let cluster = cluster("old")?;
    let clients = "osd set-require-min-compat-client";
    let require = |release: &str| {
        cluster.admin("ceph", &format!("{clients} {release}").split(' ').collect::<Vec<_>>())
    };
    require("luminous")?;
    let tried = clones_hold_their_snapshot(&cluster).await;
    // The cluster is that of the next case too.
    require("mimic")?;
    tried
}

async fn clones_hold_their_snapshot(cluster: &Cluster) -> Result<()> {
    let (world, pool) = started(cluster).await?;
    let busy = status_of(ErrorKind::Busy);
    done(&world, "vol create ceph/base 8M").await?;
    let file = world.pools().join("source");
    let content = noise(&file, 8)?;
    done(&world, &format!("vol upload ceph/base {}", file.display())).await?;
    let said = done(&world, "vol clone ceph/base one").await?;
    ensure!(said.contains("method snapshot"), "{said}");
    done(&world, "vol create ceph/two 9M --backing ceph/base").await?;
    ensure!(cluster.content("one")? == content);
    let made = cluster.snapshots("base")?;
    let ours = |(name, protected): &(String, bool)| name.starts_with("poold-") && *protected;
    ensure!(made.len() == 2 && made.iter().all(ours), "{made:?}");
    for options in ["", "--snapshots", "--snapshots --force"] {
        fails(&world, &format!("vol delete ceph/base {options}"), busy, "old/").await?;
        ensure!(cluster.snapshots("base")? == made, "nothing is lost");
    }

    // A snapshot goes with its last clone, whoever made that.
    let parent = cluster.rbd(&["info", "old/one"])?;
    let snapshot = parent["parent"]["snapshot"].as_str().context("no parent")?.to_owned();
    cluster.do_rbd(&format!("clone old/base@{snapshot} old/theirs"))?;
    done(&world, "vol delete ceph/one").await?;
    ensure!(cluster.snapshots("base")? == made, "it is theirs too");
    ensure!(cluster.content("theirs")? == content);
    pool.refresh(&none()).await?;
    done(&world, "vol delete ceph/theirs").await?;
    let left = cluster.snapshots("base")?;
    ensure!(left.len() == 1 && left[0].0 != snapshot && left[0].1, "{left:?}");

    // Also when the daemon dies between the two.
    let done_and_no_answer = "\"$real\" \"$@\" || exit
        case \" $* \" in
        *' rm '*) [ -e \"$here/removed\" ] || { : >\"$here/removed\"; exec sleep infinity; } ;;
        esac";
    world.replace_program("rbd", done_and_no_answer)?;
    let two = world.volume(&pool.lookup_volume("two", &none()).await?).await?;
    two.delete(&with("wait", 0_u64)).await?;
    eventually("it is deleted", async || Ok(world.whole().join("removed").exists())).await?;
    ensure!(cluster.images()? == ["base"] && cluster.snapshots("base")? == left);
    world.end(Signal::SIGKILL).await?;
    world.poold().await?;
    eventually("its snapshot goes", async || Ok(cluster.snapshots("base")?.is_empty())).await?;
    eventually("it is no volume", async || Ok(volume_names(&pool).await? == ["base"])).await?;
    done(&world, "vol delete ceph/base").await?;
    ensure!(cluster.images()?.is_empty());
    Ok(())
}
