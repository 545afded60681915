//! What a runtime says about the process whose listener it hands over.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// The container process state of the OCI runtime specification.
///
/// Whatever is missing or `null` is empty or 0, and unknown members are ignored: runtimes and
/// versions of the specification differ. Some give pid 0 for a process that joins a running
/// container; take the process from the first notification then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerProcessState {
    /// Version of the specification.
    #[serde(deserialize_with = "null_is_default")]
    pub oci_version: String,
    /// The names of the descriptors, in the order they were sent.
    #[serde(deserialize_with = "null_is_default")]
    pub fds: Vec<String>,
    /// Process id of the container process, in the runtime's PID namespace.
    #[serde(deserialize_with = "null_is_default")]
    pub pid: i32,
    /// `listenerMetadata` of the container's seccomp profile, verbatim.
    #[serde(deserialize_with = "null_is_default")]
    pub metadata: String,
    /// The container's state.
    #[serde(deserialize_with = "null_is_default")]
    pub state: State,
}

/// The state of a container in the OCI runtime specification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// Version of the specification.
    #[serde(deserialize_with = "null_is_default")]
    pub oci_version: String,
    /// The container's id, unique within one runtime's root directory.
    #[serde(deserialize_with = "null_is_default")]
    pub id: String,
    /// `creating`, `created`, `running` or `stopped`.
    #[serde(deserialize_with = "null_is_default")]
    pub status: String,
    /// Process id of the container's first process, in the runtime's PID namespace; 0 if unknown.
    #[serde(deserialize_with = "null_is_default")]
    pub pid: i32,
    /// The container's bundle directory, as the runtime sees it.
    #[serde(deserialize_with = "null_is_default")]
    pub bundle: String,
    /// The container's annotations.
    #[serde(deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
}

/// Go's encoder writes `null` for an empty list or map.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete() {
        let state: ContainerProcessState = serde_json::from_str(
            r#"{"ociVersion":"1.0.2-dev","fds":["seccompFd"],"pid":4422,"metadata":"m","state":{
                "ociVersion":"1.0.2-dev","id":"c1","status":"creating","pid":4422,"bundle":"/b",
                "annotations":{"k":"v"}},"later":[1]}"#,
        )
        .unwrap();
        assert_eq!(state.fds, ["seccompFd"]);
        assert_eq!((state.pid, state.state.pid), (4422, 4422));
        assert_eq!(state.state.id, "c1");
        assert_eq!(state.state.annotations["k"], "v");
        let again = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<ContainerProcessState>(&again).unwrap(), state);
    }

    #[test]
    fn sparse() {
        let exec: ContainerProcessState = serde_json::from_str(
            r#"{"ociVersion":"0.2.0","fds":["seccompFd"],"pid":0,
                "state":{"ociVersion":"0.2.0","id":"c1","pid":0,"annotations":null}}"#,
        )
        .unwrap();
        assert_eq!(exec.metadata, "");
        assert_eq!(exec.state.annotations, BTreeMap::new());
        let nothing: ContainerProcessState =
            serde_json::from_str(r#"{"fds":null,"state":null}"#).unwrap();
        assert_eq!(nothing, ContainerProcessState::default());
    }

    #[test]
    fn wrong_types_are_refused() {
        for text in ["1", r#"{"pid":"1"}"#, r#"{"pid":99999999999}"#, r#"{"fds":"x"}"#] {
            assert!(serde_json::from_str::<ContainerProcessState>(text).is_err(), "{text}");
        }
    }
}
