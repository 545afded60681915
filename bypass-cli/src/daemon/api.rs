//! The objects of the API, as bypass4netnsd has them: names, order and `null` are those of Go's
//! encoder, since clients were written against it.
//!
//! `docs/openapi.yaml` describes them.

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::path::PathBuf;

use bypass_core::{Publish, PublishConflict, PublishList, parse_network};
use ipnet::IpNet;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A bypass that is served.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Status {
    pub(super) id: String,
    pub(super) pid: u32,
    pub(super) spec: Spec,
}

/// What a client asks for: one container.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    #[serde(deserialize_with = "null_is_default")]
    pub(super) id: String,
    /// Where its runtime hands over; empty for the default.
    #[serde(deserialize_with = "null_is_default")]
    pub(super) socket_path: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(super) pid_file_path: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(super) log_file_path: String,
    pub(super) port_mapping: Option<Vec<Object<PortSpec>>>,
    /// Networks, or `auto` for those that the container is in.
    pub(super) ignore_subnets: Option<Vec<String>>,
    #[serde(deserialize_with = "null_is_default")]
    pub(super) ignore_bind: bool,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct PortSpec {
    protos: Option<Vec<String>>,
    #[serde(rename = "parentIP", deserialize_with = "null_is_default")]
    parent_ip: String,
    #[serde(rename = "parentPort", deserialize_with = "null_is_default")]
    parent_port: i64,
    /// Not looked at: a port is published whatever address of the container is bound.
    #[serde(rename = "childIP", deserialize_with = "null_is_default")]
    child_ip: String,
    #[serde(rename = "childPort", deserialize_with = "null_is_default")]
    child_port: i64,
}

/// What is said of a request that failed.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    pub(super) message: String,
}

/// What a specification says that cannot be done.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpecError {
    #[error("id: a container's id is missing")]
    Id,
    #[error("parentPort and childPort are ports from 1 to 65535, not {0}")]
    Port(i64),
    #[error("parentIP: {0:?} is no IP address")]
    Ip(String),
    #[error("protos: {0:?} cannot be published, tcp and udp can")]
    Protocol(String),
    #[error("portMapping: {0}")]
    Map(bypass_core::PublishParseError),
    #[error("portMapping: {0}")]
    Conflict(PublishConflict),
    #[error("ignoreSubnets: {0:?} is neither a network, like 10.0.0.0/8, nor auto")]
    Network(String),
}

impl Spec {
    /// What the container publishes, in the grammar of `-p`.
    pub(super) fn publish(&self) -> Result<Vec<String>, SpecError> {
        let mut maps = Vec::new();
        for Object(port) in self.port_mapping.iter().flatten() {
            maps.extend(port.maps()?);
        }
        // A contradiction is a mistake even where nothing comes of it.
        let parsed = maps.iter().map(|map| map.parse::<Publish>().map_err(SpecError::Map));
        PublishList::new(parsed.collect::<Result<_, _>>()?).map_err(SpecError::Conflict)?;
        Ok(if self.ignore_bind { Vec::new() } else { maps })
    }

    /// Networks that stay in the container, and whether those that it is in do too.
    pub(super) fn ignored(&self) -> Result<(Vec<IpNet>, bool), SpecError> {
        let (mut networks, mut auto) = (Vec::new(), false);
        for text in self.ignore_subnets.iter().flatten() {
            match text.as_str() {
                "auto" => auto = true,
                text => networks.push(network(text)?),
            }
        }
        Ok((networks, auto))
    }

    /// The path of a member that may be empty.
    pub(super) fn path(member: &str) -> Option<PathBuf> {
        (!member.is_empty()).then(|| member.into())
    }
}

/// A network of which more than the prefix may be given, as Go's `net.ParseCIDR` takes it.
fn network(text: &str) -> Result<IpNet, SpecError> {
    match text.parse::<IpNet>() {
        Ok(network) => Ok(network.trunc()),
        Err(_no_prefix) => parse_network(text).map_err(|_none| SpecError::Network(text.into())),
    }
}

impl PortSpec {
    fn maps(&self) -> Result<Vec<String>, SpecError> {
        let port = |port: i64| u16::try_from(port).ok().filter(|port| *port != 0);
        let valid = |number: i64| port(number).ok_or(SpecError::Port(number));
        let (parent, child) = (valid(self.parent_port)?, valid(self.child_port)?);
        let ip = match self.parent_ip.as_str() {
            "" => None,
            text => Some(text.parse::<IpAddr>().map_err(|_none| SpecError::Ip(text.into()))?),
        };
        let mut maps = Vec::new();
        let tcp = [String::from("tcp")];
        let protos = match self.protos.as_deref() {
            None | Some([]) => &tcp[..],
            Some(protos) => protos,
        };
        for name in protos {
            let (protocol, any) = match name.as_str() {
                "tcp" | "udp" => (name.as_str(), None),
                "tcp4" | "udp4" => (name.trim_end_matches('4'), Some("0.0.0.0")),
                "tcp6" | "udp6" => (name.trim_end_matches('6'), Some("[::]")),
                other => return Err(SpecError::Protocol(other.into())),
            };
            let host = match (ip, any) {
                (Some(IpAddr::V4(ip)), _) => format!("{ip}:"),
                (Some(IpAddr::V6(ip)), _) => format!("[{ip}]:"),
                (None, Some(any)) => format!("{any}:"),
                (None, None) => String::new(),
            };
            maps.push(format!("{host}{parent}:{child}/{protocol}"));
        }
        Ok(maps)
    }
}

/// An object, for which serde would also take a list of its members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

/// Go's encoder writes `null` for what is not there, and its decoder leaves what it is told so.
pub(super) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(value: serde_json::Value) -> Spec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_not_said_is_written_as_go_writes_it() {
        let sparse = spec(json!({ "id": "c1", "portMapping": null, "unknown": 1 }));
        assert_eq!(
            serde_json::to_string(&Status { id: "c1".into(), pid: 7, spec: sparse }).unwrap(),
            r#"{"id":"c1","pid":7,"spec":{"id":"c1","socketPath":"","pidFilePath":"","logFilePath":"","portMapping":null,"ignoreSubnets":null,"ignoreBind":false}}"#
        );
        let full = json!({
            "id": "c1", "socketPath": "/s", "pidFilePath": "/p", "logFilePath": "/l",
            "portMapping": [{
                "protos": ["tcp"], "parentIP": "0.0.0.0", "parentPort": 8080, "childIP": "",
                "childPort": 80,
            }],
            "ignoreSubnets": ["127.0.0.0/8", "auto"], "ignoreBind": true,
        });
        assert_eq!(serde_json::to_value(spec(full.clone())).unwrap(), full);
    }

    #[test]
    fn port_mappings_are_maps_of_the_command_line() {
        let maps =
            |port: serde_json::Value| spec(json!({ "id": "c", "portMapping": [port] })).publish();
        let ports = |ip: &str, protos: serde_json::Value| json!({ "protos": protos, "parentIP": ip, "parentPort": 8080, "childPort": 80 });
        for (ip, protos, expected) in [
            ("", json!(null), &["8080:80/tcp"][..]),
            ("", json!(["tcp", "udp"]), &["8080:80/tcp", "8080:80/udp"]),
            ("127.0.0.1", json!(["tcp"]), &["127.0.0.1:8080:80/tcp"]),
            ("::1", json!([]), &["[::1]:8080:80/tcp"]),
            ("", json!(["tcp4", "udp6"]), &["0.0.0.0:8080:80/tcp", "[::]:8080:80/udp"]),
        ] {
            assert_eq!(maps(ports(ip, protos)).unwrap(), expected);
        }
        for (port, part) in [
            (ports("", json!(["sctp"])), "sctp"),
            (ports("localhost", json!(["tcp"])), "localhost"),
            (json!({ "parentPort": 70000, "childPort": 80 }), "70000"),
            (json!({ "parentPort": 8080 }), "not 0"),
            (ports("", json!(["tcp", "tcp"])), "publish the same"),
        ] {
            let error = maps(port).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let mut ignoring = spec(json!({ "portMapping": [ports("", json!(null))] }));
        ignoring.ignore_bind = true;
        assert_eq!(ignoring.publish().unwrap(), [""; 0]);
    }

    #[test]
    fn ignored_networks_may_be_those_of_the_container() {
        let ignored = |nets: &[&str]| {
            let (nets, auto) = spec(json!({ "ignoreSubnets": nets })).ignored()?;
            Ok::<_, SpecError>((nets.iter().map(ToString::to_string).collect::<Vec<_>>(), auto))
        };
        let (nets, auto) = ignored(&["127.0.0.0/8", "10.0.2.7/24", "auto", "fd00::/8"]).unwrap();
        assert_eq!(
            (nets, auto),
            (vec!["127.0.0.0/8".into(), "10.0.2.0/24".into(), "fd00::/8".into()], true)
        );
        assert!(!ignored(&[]).unwrap().1);
        assert!(ignored(&["automatic"]).unwrap_err().to_string().contains("automatic"));
    }
}
