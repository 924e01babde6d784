"""What people do with finished pictures: marks, boards, contact sheets."""
