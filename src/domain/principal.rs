//! Who makes a request and what they may do.

use std::sync::Arc;

use super::clock::Timestamp;
use super::id::{TenantId, UserId};

/// What a request may need. A route declares its permissions once; the guard and the API document read that declaration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Permission {
    /// Read states and their history, diffs, workflows, executions.
    StatesRead,
    /// Save, patch, delete states; fire transitions.
    StatesWrite,
    /// List and load checkpoints.
    CheckpointsRead,
    /// Create and delete checkpoints.
    CheckpointsWrite,
    /// Read own sessions.
    SessionsRead,
    /// Write own sessions.
    SessionsWrite,
    /// Read variables of every scope; of user and session scopes the own.
    VariablesRead,
    /// Write variables of workflow, session and user scopes.
    VariablesWrite,
    /// Write variables of the global scope, beside [`Permission::VariablesWrite`].
    VariablesGlobalWrite,
    /// Act for other users of the tenant.
    Delegate,
    /// See the values of secret variables.
    SecretsReveal,
    /// Follow the stream of events.
    EventsRead,
    /// Read statistics and metrics.
    StatsRead,
    /// Empty the caches.
    CacheClear,
    /// Read the audit trail.
    AuditRead,
    /// Everything.
    Admin,
}

impl Permission {
    /// All permissions.
    pub const ALL: [Self; 16] = [
        Self::StatesRead,
        Self::StatesWrite,
        Self::CheckpointsRead,
        Self::CheckpointsWrite,
        Self::SessionsRead,
        Self::SessionsWrite,
        Self::VariablesRead,
        Self::VariablesWrite,
        Self::VariablesGlobalWrite,
        Self::Delegate,
        Self::SecretsReveal,
        Self::EventsRead,
        Self::StatsRead,
        Self::CacheClear,
        Self::AuditRead,
        Self::Admin,
    ];

    /// The name in roles, configuration and the API document.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::StatesRead => "states:read",
            Self::StatesWrite => "states:write",
            Self::CheckpointsRead => "checkpoints:read",
            Self::CheckpointsWrite => "checkpoints:write",
            Self::SessionsRead => "sessions:read",
            Self::SessionsWrite => "sessions:write",
            Self::VariablesRead => "variables:read",
            Self::VariablesWrite => "variables:write",
            Self::VariablesGlobalWrite => "variables.global:write",
            Self::Delegate => "delegate",
            Self::SecretsReveal => "secrets:reveal",
            Self::EventsRead => "events:read",
            Self::StatsRead => "stats:read",
            Self::CacheClear => "cache:clear",
            Self::AuditRead => "audit:read",
            Self::Admin => "admin",
        }
    }

    /// The permission of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|permission| permission.name() == name)
    }
}

/// A set of permissions. `admin` holds all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Permissions(u32);

impl Permissions {
    /// Adds a permission.
    pub fn insert(&mut self, permission: Permission) {
        self.0 |= match permission {
            Permission::Admin => u32::MAX,
            _ => 1 << permission as u8,
        };
    }

    /// Adds all permissions of another set.
    pub fn extend(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether the permission is in the set.
    #[must_use]
    pub const fn contains(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u8) != 0
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        permissions.into_iter().fold(Self::default(), |mut set, permission| {
            set.insert(permission);
            set
        })
    }
}

/// The identity behind a request: taken from a verified token and from nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The tenant. Every read and write happens in it.
    pub tenant: TenantId,
    /// The issuer of the token, byte for byte as configured.
    pub issuer: Arc<str>,
    /// The user within the issuer (`sub`).
    pub subject: UserId,
    /// The client that obtained the token (`azp` or `client_id`), for logs.
    pub client: Option<Arc<str>>,
    /// Who really acts, when the token says that someone impersonates the subject (`act.sub`), for logs.
    pub actor: Option<Arc<str>>,
    /// What the principal may do.
    pub permissions: Permissions,
    /// When the token ends.
    pub expires_at: Timestamp,
}

impl Principal {
    /// Whether the principal holds the permission.
    #[must_use]
    pub const fn may(&self, permission: Permission) -> bool {
        self.permissions.contains(permission)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_permissions() {
        for permission in Permission::ALL {
            assert_eq!(Permission::from_name(permission.name()), Some(permission));
        }
        assert_eq!(Permission::from_name("states:*"), None);
    }

    #[test]
    fn admin_is_everything_and_nothing_else_is() {
        let admin: Permissions = [Permission::Admin].into_iter().collect();
        let reader: Permissions = [Permission::StatesRead].into_iter().collect();
        assert!(Permission::ALL.into_iter().all(|permission| admin.contains(permission)));
        assert_eq!(Permission::ALL.into_iter().filter(|permission| reader.contains(*permission)).count(), 1);
    }
}
