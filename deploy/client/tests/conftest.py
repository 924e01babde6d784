"""What the client's tests use."""

from fixtures.rows import fresh_limits, key_of, live, own_folders, receiver

from tests.servers import key, program, program_at_stand_in, stand_in, working
