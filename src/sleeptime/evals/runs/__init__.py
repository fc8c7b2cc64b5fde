"""What an experiment asks for, and measuring it: paid for once, gone on with after a stop."""
