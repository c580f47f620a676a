"""Who may call: API keys, the organizations they belong to, and the authenticator. No transport in it."""
