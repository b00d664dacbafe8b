//! Says whether the crates that are published can keep their minimum Rust version: reads
//! `cargo metadata --all-features` on standard input, and fails when a dependency that their
//! users compile declares a newer one. `scripts/msrv` runs it.
//!
//! The report goes to standard error; standard output is the names of the published crates.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use serde::Deserialize;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    rust_version: Option<String>,
    /// The registries it may go to: all of them when absent, none when empty.
    publish: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

/// `kind` is absent for a normal dependency, else `dev` or `build`.
#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let metadata: Metadata = serde_json::from_reader(io::stdin().lock())?;
    let published: Vec<&Package> = metadata
        .packages
        .iter()
        .filter(|package| metadata.workspace_members.contains(&package.id))
        .filter(|package| package.publish.as_ref().is_none_or(|to| !to.is_empty()))
        .collect();

    // The oldest promise counts, should the crates ever differ.
    let promised = published.iter().filter_map(|package| package.rust_version.as_deref());
    let promised =
        promised.min_by_key(|text| version(text)).ok_or("no crate has a rust-version")?;

    let normal = reached(&metadata, &published, &[None]);
    let all = reached(&metadata, &published, &[None, Some("build")]);
    let mut broken = false;
    for package in metadata.packages.iter().filter(|package| all.contains(&*package.id)) {
        let Some(needed) = package.rust_version.as_deref() else { continue };
        if version(needed) <= version(promised) {
            continue;
        }
        let Package { name, version, .. } = package;
        if normal.contains(&*package.id) {
            broken = true;
            eprintln!("msrv: {name} {version} needs Rust {needed}, and we promise {promised}");
        } else {
            eprintln!("msrv: warning: {name} {version}, for build scripts, needs Rust {needed}");
        }
    }
    let verdict = if broken { "and some do not" } else { "and no rust-version is above it" };
    eprintln!("msrv: {} crates must compile with Rust {promised}, {verdict}", normal.len());

    let mut out = io::stdout().lock();
    for package in published {
        writeln!(out, "{}", package.name)?;
    }
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The roots and what they depend on, over dependencies of the given kinds, for every platform.
fn reached<'a>(
    metadata: &'a Metadata,
    roots: &[&'a Package],
    kinds: &[Option<&str>],
) -> BTreeSet<&'a str> {
    let nodes: BTreeMap<&str, &Node> =
        metadata.resolve.nodes.iter().map(|node| (&*node.id, node)).collect();
    let mut seen = BTreeSet::new();
    let mut todo: Vec<&str> = roots.iter().map(|package| &*package.id).collect();
    while let Some(id) = todo.pop() {
        if !seen.insert(id) {
            continue;
        }
        let dependencies = nodes.get(id).into_iter().flat_map(|node| &node.deps);
        todo.extend(
            dependencies
                .filter(|dep| {
                    dep.dep_kinds.iter().any(|kind| kinds.contains(&kind.kind.as_deref()))
                })
                .map(|dep| &*dep.pkg),
        );
    }
    seen
}

/// `1.85` and `1.85.0` as numbers, a missing patch being zero.
fn version(text: &str) -> [u32; 3] {
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    [(); 3].map(|()| parts.next().unwrap_or(0))
}
