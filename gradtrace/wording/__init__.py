"""Numbers and sentences for a person; what formats, checks and commands say."""
