//! Who leads the store, over the JSON interface of its members.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::base64;
use crate::client::http;
use crate::network::{Host, NODES, enter};

const PORT: u16 = 2379;
const WITHIN: Duration = Duration::from_millis(500);

/// The store, as asked from a host of the lab.
#[derive(Clone, Debug)]
pub struct Store {
    /// The network namespace of that host.
    pub namespace: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    host: Host,
    id: String,
    leader: String,
}

impl Store {
    /// The host whose member leads, as soon as one does.
    pub fn leader(&self) -> Result<Host> {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(leader) = leader_among(&self.members()?) {
                return Ok(leader);
            }
            if Instant::now() > end {
                bail!("etcd has no leader");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until all members answer and agree who leads.
    pub fn wait_until_complete(&self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let members = self.members()?;
            if members.len() == NODES.len() && leader_among(&members).is_some() {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("only {} members of etcd answer", members.len());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Makes the member on a host the leader.
    pub fn move_leader(&self, to: Host) -> Result<()> {
        let from = self.leader()?;
        if from == to {
            return Ok(());
        }
        let members = self.members()?;
        let target =
            members.iter().find(|member| member.host == to).with_context(|| format!("{to} has no etcd"))?;
        let body = json!({ "targetID": target.id });
        let path = "/v3/maintenance/transfer-leadership";
        let answer = self.block_on(http::ask(from, PORT, path, Some(&body), Duration::from_secs(5)))??;
        if answer.code != 200 {
            bail!("etcd on {from} doesn't hand over to {to}: {}", answer.text);
        }
        let now = self.leader()?;
        if now != to { bail!("etcd is led by {now}, not {to}") } else { Ok(()) }
    }

    /// Deletes all keys that begin so.
    pub fn forget(&self, prefix: &str) -> Result<()> {
        let answer = self.of_range("/v3/kv/deleterange", prefix)?;
        if answer.code != 200 { bail!("etcd doesn't delete {prefix}: {}", answer.text) } else { Ok(()) }
    }

    fn of_range(&self, path: &str, prefix: &str) -> Result<http::Answer> {
        let mut after = prefix.as_bytes().to_vec();
        // The first key after all of them: these prefixes don't end in the highest byte there is.
        *after.last_mut().context("a prefix")? += 1;
        let body = json!({ "key": base64::encode(prefix.as_bytes()), "range_end": base64::encode(&after) });
        self.block_on(http::ask(NODES[0], PORT, path, Some(&body), Duration::from_secs(5)))?
    }

    /// All keys that begin so, with their values, as text.
    pub fn values(&self, prefix: &str) -> Result<Vec<(String, String)>> {
        let answer = self.of_range("/v3/kv/range", prefix)?;
        let found = answer.body["kvs"].as_array().cloned().unwrap_or_default();
        let text = |value: &serde_json::Value| -> Option<String> {
            String::from_utf8(base64::decode(value.as_str()?)?).ok()
        };
        Ok(found.iter().filter_map(|kv| Some((text(&kv["key"])?, text(&kv["value"])?))).collect())
    }

    fn members(&self) -> Result<Vec<Member>> {
        self.block_on(async {
            let mut members = Vec::new();
            for host in NODES {
                let body = json!({});
                let answer = http::ask(host, PORT, "/v3/maintenance/status", Some(&body), WITHIN).await;
                let Ok(answer) = answer else { continue };
                let text = |value: &serde_json::Value| value.as_str().map(str::to_string);
                let id = text(&answer.body["header"]["member_id"]);
                let leader = text(&answer.body["leader"]);
                if let (Some(id), Some(leader)) = (id, leader) {
                    members.push(Member { host, id, leader });
                }
            }
            members
        })
    }

    /// Runs a future on a thread in that host's network.
    pub fn block_on<T: Send>(&self, work: impl Future<Output = T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let run = || -> Result<T> {
                enter(&self.namespace)?;
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                Ok(runtime.block_on(work))
            };
            scope.spawn(run).join().expect("asking etcd doesn't panic")
        })
    }
}

/// The host that a majority calls leader, if that one answers, too.
fn leader_among(members: &[Member]) -> Option<Host> {
    members.iter().find_map(|candidate| {
        let votes = members.iter().filter(|member| member.leader == candidate.id).count();
        (votes > NODES.len() / 2).then_some(candidate.host)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(host: u8, leader: u8) -> Member {
        Member { host: Host(host), id: host.to_string(), leader: leader.to_string() }
    }

    #[test]
    fn the_leader_is_whom_most_follow() {
        assert_eq!(leader_among(&[member(1, 2), member(2, 2), member(3, 3)]), Some(Host(2)));
        assert_eq!(leader_among(&[member(1, 0), member(2, 0), member(3, 0)]), None);
        assert_eq!(leader_among(&[member(2, 2)]), None, "one alone leads nobody");
    }
}
