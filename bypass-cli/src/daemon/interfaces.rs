//! What is known of the interfaces of containers: told and asked by way of the com socket.
//!
//! Agents that handle one container each, as those of bypass4netnsd do, tell each other here which
//! addresses and published ports their containers have.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::api::{Object, null_is_default};

/// Containers that are known at a time. Whoever tells of one is a program of the user's.
const MOST: usize = 4096;

/// The containers by the id that they were told under.
#[derive(Debug, Default)]
pub(super) struct Interfaces(BTreeMap<String, ContainerInterfaces>);

impl Interfaces {
    pub(super) fn all(&self) -> &BTreeMap<String, ContainerInterfaces> {
        &self.0
    }

    pub(super) fn get(&self, id: &str) -> Option<&ContainerInterfaces> {
        self.0.get(id)
    }

    /// `None` if there are too many.
    pub(super) fn insert(
        &mut self,
        id: String,
        of: ContainerInterfaces,
    ) -> Option<&ContainerInterfaces> {
        if self.0.len() >= MOST && !self.0.contains_key(&id) {
            return None;
        }
        let known = self.0.entry(id).or_default();
        *known = of;
        Some(known)
    }

    pub(super) fn remove(&mut self, id: &str) {
        self.0.remove(id);
    }
}

/// One container.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub(super) struct ContainerInterfaces {
    #[serde(rename = "containerID", deserialize_with = "null_is_default")]
    container_id: String,
    interfaces: Option<Vec<Object<Interface>>>,
    /// Host ports by the container's ports.
    #[serde(rename = "forwardingPorts")]
    forwarding_ports: Option<BTreeMap<i64, i64>>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Interface {
    #[serde(deserialize_with = "null_is_default")]
    name: String,
    hw_addr: Option<Bytes>,
    addresses: Option<Vec<Object<Address>>>,
    #[serde(deserialize_with = "null_is_default")]
    is_loopback: bool,
}

/// Go's `net.IPNet`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase", default)]
struct Address {
    #[serde(rename = "IP")]
    ip: Ip,
    mask: Option<Bytes>,
}

/// Go's `[]byte`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Go's `net.IP`, which is an empty text where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ip(Option<IpAddr>);

impl Serialize for Ip {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(ip) => serializer.collect_str(&ip.to_canonical()),
            None => serializer.serialize_str(""),
        }
    }
}

impl<'de> Deserialize<'de> for Ip {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Option::<String>::deserialize(deserializer)?.as_deref() {
            None | Some("") => Ok(Self(None)),
            Some(text) => match text.parse() {
                Ok(ip) => Ok(Self(Some(ip))),
                Err(_none) => Err(serde::de::Error::custom(format!("{text:?} is no IP address"))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(text: &str) -> Result<String, serde_json::Error> {
        let Object(parsed): Object<ContainerInterfaces> = serde_json::from_str(text)?;
        serde_json::to_string(&parsed)
    }

    #[test]
    fn what_go_writes_is_written_again() {
        for text in [
            r#"{"containerID":"c1","interfaces":[{"name":"eth0","hwAddr":"6h7VzeLq","addresses":[{"IP":"10.4.0.53","Mask":"////AA=="}],"isLoopback":false}],"forwardingPorts":{"5201":5202}}"#,
            r#"{"containerID":"","interfaces":null,"forwardingPorts":null}"#,
            r#"{"containerID":"c","interfaces":[{"name":"","hwAddr":null,"addresses":null,"isLoopback":true}],"forwardingPorts":{}}"#,
            r#"{"containerID":"c","interfaces":[{"name":"","hwAddr":"","addresses":[{"IP":"","Mask":null},{"IP":"fd00::1","Mask":"//////////8AAAAAAAAAAA=="}],"isLoopback":true}],"forwardingPorts":{}}"#,
        ] {
            assert_eq!(again(text).unwrap(), text);
        }
        let sparse = r#"{"containerID":"","interfaces":null,"forwardingPorts":null}"#;
        assert_eq!(again("{}").unwrap(), sparse);
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in [
            r#"{"forwardingPorts":{"http":80}}"#,
            r#"{"interfaces":[{"hwAddr":"ea:1e"}]}"#,
            r#"{"interfaces":[{"addresses":[{"IP":"10.4.0"}]}]}"#,
            r#"{"interfaces":{}}"#,
            r#"{"interfaces":[["eth0"]]}"#,
            "[]",
        ] {
            assert!(again(text).is_err(), "{text}");
        }
    }

    #[test]
    fn there_are_not_too_many() {
        let mut interfaces = Interfaces::default();
        for id in 0..MOST {
            assert!(interfaces.insert(id.to_string(), ContainerInterfaces::default()).is_some());
        }
        assert!(interfaces.insert("more".into(), ContainerInterfaces::default()).is_none());
        assert!(interfaces.insert("0".into(), ContainerInterfaces::default()).is_some());
        interfaces.remove("0");
        assert!(interfaces.insert("more".into(), ContainerInterfaces::default()).is_some());
    }
}
