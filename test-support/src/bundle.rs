//! OCI bundles for rootless runtimes that show the host's programs: an empty root
//! over which `/usr` and `/etc` are bound read-only, so that nothing is copied.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::failure::{Context, Result};
use crate::world::World;

/// Writes a bundle that runs `arguments` under the seccomp profile `seccomp`, with one id
/// mapped and a network namespace of its own, and returns its directory.
///
/// `bind` is a host directory that is shown, read-only, at the same path.
///
/// # Errors
/// When a file cannot be written.
pub fn write(
    world: &World,
    name: &str,
    seccomp: &Value,
    bind: &Path,
    arguments: &[&str],
) -> Result<PathBuf> {
    let bundle = world.directory(name)?;
    let root = bundle.join("rootfs");
    make_root(world, &root, bind)?;
    let config = json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "container",
        "mounts": mounts(bind),
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "cwd": "/",
            "args": arguments,
            "env": [format!("PATH={}", crate::world::PATH), "HOME=/"],
            "noNewPrivileges": true,
            "capabilities": {},
        },
        "linux": {
            "namespaces": [
                { "type": "user" }, { "type": "network" }, { "type": "pid" },
                { "type": "mount" }, { "type": "ipc" }, { "type": "uts" },
            ],
            "uidMappings": [{ "containerID": 0, "hostID": world.uid(), "size": 1 }],
            "gidMappings": [{ "containerID": 0, "hostID": world.gid(), "size": 1 }],
            "seccomp": seccomp,
        },
    });
    fs::write(bundle.join("config.json"), serde_json::to_vec_pretty(&config)?)?;
    Ok(bundle)
}

/// The skeleton over which the mounts go; runtimes cannot make mount points in it later
/// because it is read-only.
fn make_root(world: &World, root: &Path, bind: &Path) -> Result {
    let bind = bind.strip_prefix("/").context("the bound path is absolute")?;
    for name in ["proc", "dev", "sys", "usr", "etc", "tmp"].map(Path::new).into_iter().chain([bind])
    {
        fs::create_dir_all(root.join(name))?;
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        let host = Path::new("/").join(name);
        match fs::read_link(&host) {
            Ok(target) => symlink(target, root.join(name))?,
            Err(_not_a_link) if host.is_dir() => fs::create_dir_all(root.join(name))?,
            Err(_absent) => {}
        }
    }
    chown(root, Some(world.uid()), Some(world.gid()))?;
    Ok(())
}

fn mounts(bind: &Path) -> Vec<Value> {
    let tmpfs = |destination: &str| {
        json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "mode=755"] })
    };
    let host = |path: &Path| {
        json!({ "destination": path, "type": "bind", "source": path,
                "options": ["rbind", "ro"] })
    };
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
        tmpfs("/dev"),
        tmpfs("/tmp"),
    ];
    mounts.extend(["/usr", "/etc"].map(|path| host(Path::new(path))));
    // On a machine whose /bin is no link into /usr the loader lives in /lib.
    let unmerged = ["/bin", "/sbin", "/lib", "/lib64"].map(Path::new);
    mounts
        .extend(unmerged.into_iter().filter(|path| path.is_dir() && !path.is_symlink()).map(host));
    mounts.push(host(bind));
    mounts
}
