"""Identity: persons, accounts and sign-ins; who somebody is, never what they may do."""
