//! From the roles of a token to permissions.

use std::collections::BTreeMap;

use crate::domain::principal::{Permission, Permissions};

use super::issuer::AuthConfigError;

/// The configured roles. A role that is not in the table grants nothing, unless it is named like a permission.
#[derive(Debug)]
pub(super) struct RoleTable(BTreeMap<String, Permissions>);

impl RoleTable {
    /// Reads `auth.roles`.
    pub(super) fn new(roles: &BTreeMap<String, Vec<String>>) -> Result<Self, AuthConfigError> {
        let mut table = BTreeMap::new();
        for (role, names) in roles {
            let mut permissions = Permissions::default();
            for name in names {
                let permission = Permission::from_name(name).ok_or_else(|| {
                    let known = Permission::ALL.map(Permission::name).join(", ");
                    AuthConfigError(format!("auth.roles.{role}: {name:?} is no permission; permissions are {known}"))
                })?;
                permissions.insert(permission);
            }
            table.insert(role.clone(), permissions);
        }
        Ok(Self(table))
    }

    /// What the roles grant together.
    pub(super) fn grant<'a>(&self, roles: impl IntoIterator<Item = &'a str>) -> Permissions {
        let mut granted = Permissions::default();
        for role in roles {
            if let Some(permissions) = self.0.get(role) {
                granted.extend(*permissions);
            }
            if let Some(permission) = Permission::from_name(role) {
                granted.insert(permission);
            }
        }
        granted
    }
}
