//! What `cargo metadata` says about the workspace, as far as tidy asks.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::workspace::Workspace;

/// The workspace's packages and all that they depend on.
#[derive(Deserialize)]
pub struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

/// A package, ours or another's.
#[derive(Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licence expression, where it states one.
    pub license: Option<String>,
    /// Its Cargo.toml.
    pub manifest_path: PathBuf,
    id: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    features: Vec<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

impl Metadata {
    /// Asks cargo.
    pub fn read(workspace: &Workspace) -> Result<Metadata> {
        let output = workspace
            .cargo()
            .args(["metadata", "--format-version=1", "--locked"])
            .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
            .output()
            .context("run cargo metadata")?;
        ensure!(
            output.status.success(),
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        serde_json::from_slice(&output.stdout).context("read what cargo metadata says")
    }

    /// How many packages there are.
    pub fn count(&self) -> usize {
        self.packages.len()
    }

    /// Our own packages.
    pub fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages
            .iter()
            .filter(|package| self.workspace_members.contains(&package.id))
    }

    /// Other people's packages that something of ours is built from.
    pub fn others(&self) -> impl Iterator<Item = &Package> {
        self.packages
            .iter()
            .filter(|package| !self.workspace_members.contains(&package.id))
    }

    /// Every package that a member reaches by normal dependencies, with a shortest way to it.
    pub fn reached_from(&self, member: &str) -> BTreeMap<String, Vec<String>> {
        let names: BTreeMap<&str, &str> = self
            .packages
            .iter()
            .map(|p| (p.id.as_str(), p.name.as_str()))
            .collect();
        let nodes: BTreeMap<&str, &Node> = self
            .resolve
            .nodes
            .iter()
            .map(|node| (node.id.as_str(), node))
            .collect();
        let mut reached: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut queue: VecDeque<(&str, Vec<String>)> = self
            .members()
            .filter(|package| package.name == member)
            .map(|package| (package.id.as_str(), vec![package.name.clone()]))
            .collect();
        while let Some((id, path)) = queue.pop_front() {
            for edge in nodes.get(id).into_iter().flat_map(|node| &node.deps) {
                let normal = edge.dep_kinds.iter().any(|kind| kind.kind.is_none());
                let Some(name) = names.get(edge.pkg.as_str()) else {
                    continue;
                };
                if !normal || reached.contains_key(*name) {
                    continue;
                }
                let mut path = path.clone();
                path.push((*name).to_owned());
                reached.insert((*name).to_owned(), path.clone());
                queue.push_back((&edge.pkg, path));
            }
        }
        reached
    }

    /// The features that a member asks a direct dependency for.
    pub fn asked_features(&self, member: &str, dependency: &str) -> Vec<String> {
        self.members()
            .filter(|package| package.name == member)
            .flat_map(|package| &package.dependencies)
            .filter(|used| used.name == dependency && used.kind.as_deref() != Some("dev"))
            .flat_map(|used| used.features.clone())
            .collect()
    }
}

impl Package {
    /// The names of its normal and build dependencies.
    pub fn uses(&self) -> impl Iterator<Item = &str> {
        self.dependencies
            .iter()
            .filter(|used| used.kind.as_deref() != Some("dev"))
            .map(|used| used.name.as_str())
    }
}
